"""What a browser is shown when a handler raises, with ``deployment dev`` only: the traceback as a page.

Who does not ask for HTML (curl, a test) gets it as text. In production the answer is a bare 500 and the log has it all.
"""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from html import escape
from traceback import FrameSummary, TracebackException
from typing import TYPE_CHECKING

from gkore.conf.loading import is_users, user_traceback

if TYPE_CHECKING:
    from gkore.worker.request import Request

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
    title = escape(lines[-1].strip())
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
    yield f"<header><h1>{title}</h1><p>in the handler {escape(where)}</p></header><main>"
    if len(lines) > 1:
        yield f"<pre><span>{escape(''.join(lines[:-1]))}</span></pre>"
    for frame in reversed(report.stack):
        if is_users(frame.filename):
            yield from shown(frame)
    cause = report.__cause__ or (None if report.__suppress_context__ else report.__context__)
    if cause is not None:
        yield f"<h2>before that</h2><pre><span>{escape(''.join(cause.format()))}</span></pre>"
    yield "<footer><p>The innermost line is on top. Shown because of <code>deployment dev</code>.</p></footer></main>"


def shown(frame: FrameSummary) -> Iterator[str]:
    line = frame.lineno or 0
    yield f"<h2>{escape(frame.filename)}:{line} in {escape(frame.name)}</h2><pre>"
    for number in range(max(1, line - AROUND), line + AROUND + 1):
        source = linecache.getline(frame.filename, number)
        if source:
            at = " class=at" if number == line else ""
            yield f"<span{at}><i>{number:5} </i>{escape(source.rstrip())}</span>"
    yield "</pre>"
