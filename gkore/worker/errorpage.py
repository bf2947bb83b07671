"""What a browser is shown with ``deployment dev`` only: a traceback as a page, of a handler or of code not served yet.

Who does not ask for HTML (curl, a test) gets it as text. In production the answer is a bare 500 and the log has it all.
"""

from __future__ import annotations

import linecache
import os
import re
from collections.abc import Iterator
from html import escape
from traceback import TracebackException
from typing import TYPE_CHECKING
from zlib import crc32

from gkore.conf.loading import is_users, user_traceback

if TYPE_CHECKING:
    from gkore.worker.request import Request

WAIT = "gkore-wait"
"""With this field, and the mark of what it shows, a page asks to be answered when there is something new to see."""
RELOAD = (
    f"async function wait(){{try{{let r=await fetch(location.href,{{headers:{{'{WAIT}':mark}},cache:'no-store'}});"
    f"if(!r.headers.has('{WAIT}'))return location.reload()}}catch{{}}setTimeout(wait,500)}}wait()"
)
PLACED = re.compile(r"^(\S.*?):(\d+):\d+: error: (.*)$", re.MULTILINE)
"""As ``conf.diagnostics`` says it."""
FRAME = re.compile(r'^ *File "(.+)", line (\d+)(?:, in (.+))?$', re.MULTILINE)
EXCERPTS_MAX = 20
AROUND = 4
"""Lines shown before and behind the one that raised."""
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#fff;color:#1b1b1f}
header{background:#8f1d1d;color:#fff;padding:1.5rem 2rem}h1{margin:0;font-size:1.4rem}header p{margin:.3rem 0 0}
main{padding:1rem 2rem 3rem;max-width:70rem}h2{font-size:1rem;margin:1.5rem 0 .3rem}
pre{margin:0;padding:.6rem 0;background:#f5f5f7;overflow:auto;font:14px/1.5 ui-monospace,monospace}
pre span{display:block;padding:0 1rem}pre .at{background:#f6d5d5}pre i{color:#6b6b73;font-style:normal}
footer{color:#5d5d66}@media(prefers-color-scheme:dark){body{background:#17171a;color:#e8e8ec}
pre{background:#222227}pre .at{background:#5a2323}pre i,footer{color:#a0a0a8}}
"""


def answer(request: Request, failure: BaseException) -> None:
    """Answer 500 with the traceback; what the handler had prepared is dropped."""
    html = "text/html" in (request.request_header("accept") or "")
    kind = f"text/{'html' if html else 'plain'}; charset=utf-8"
    body = page(failure, request) if html else user_traceback(failure) + "\n"
    request.fail(500, (("content-type", kind),), body)


def page(failure: BaseException, request: Request) -> str:
    """The whole page; everything in it that came from elsewhere is escaped."""
    return "".join(parts(TracebackException.from_exception(failure), f"{request.action.name} for {request.line.path}"))


def parts(report: TracebackException, where: str) -> Iterator[str]:
    lines = list(report.format_exception_only())
    yield from head(lines[-1].strip(), f"in the handler {where}")
    if len(lines) > 1:
        yield f"<pre><span>{escape(''.join(lines[:-1]))}</span></pre>"
    for frame in reversed(report.stack):
        if is_users(frame.filename):
            yield from excerpt(frame.filename, frame.lineno or 0, f"in {frame.name}")
    cause = report.__cause__ or (None if report.__suppress_context__ else report.__context__)
    if cause is not None:
        yield f"<h2>before that</h2><pre><span>{escape(''.join(cause.format()))}</span></pre>"
    yield "<footer><p>The innermost line is on top. Shown because of <code>deployment dev</code>.</p></footer></main>"


def refusal(said: str) -> str:
    """The page for code that can't be served: what was ``said`` of it, with the lines that it names."""
    return "".join(refused(said))


def refused(said: str) -> Iterator[str]:
    placed = PLACED.search(said)
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "The new code does not start")
    yield from head(placed[3] if placed else last, "in the code as it is now, which is not served because of it")
    yield "<p>Whoever opens a page sees this until the code is mended; then it loads itself again. Everything else "
    yield "(scripts, images, fetch, forms, websockets, curl) is answered by the code before, if there is any.</p>"
    innermost_first = reversed(list(FRAME.finditer(said)))
    places = [(found[1], int(found[2]), f"in {found[3]}" if found[3] else "") for found in innermost_first]
    places += [(found[1], int(found[2]), found[3]) for found in PLACED.finditer(said)]
    seen: set[tuple[str, int]] = set()
    for file, line, what in places:
        place = os.path.realpath(file), line
        if place not in seen and len(seen) < EXCERPTS_MAX and is_users(file):
            seen.add(place)
            yield from excerpt(file, line, what)
    yield f"<h2>all that was said</h2><pre><span>{escape(said)}</span></pre><footer><p>Shown because of "
    yield f"<code>deployment dev</code>.</p></footer></main><script>let mark='{mark(said)}';{RELOAD}</script>"


def mark(said: str) -> str:
    """What tells a page from one that shows something else."""
    return f"{crc32(said.encode('utf-8', 'replace')):08x}"


def head(title: str, where: str) -> Iterator[str]:
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
    yield f"<header><h1>{escape(title)}</h1><p>{escape(where)}</p></header><main>"


def excerpt(file: str, line: int, what: str) -> Iterator[str]:
    linecache.checkcache(file)
    yield f"<h2>{escape(file)}:{line} {escape(what)}</h2><pre>"
    for number in range(max(1, line - AROUND), line + AROUND + 1):
        source = linecache.getline(file, number)
        if source:
            at = " class=at" if number == line else ""
            yield f"<span{at}><i>{number:5} </i>{escape(source.rstrip())}</span>"
    yield "</pre>"
