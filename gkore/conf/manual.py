"""The manual of the conf, derived from THE TABLE: the help of one directive, docs/directives.md, an example conf."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from gkore.conf.diagnostics import nearest
from gkore.conf.directives import ROWS, SETTINGS, STRUCTURE, TABLE
from gkore.conf.row import CONTEXTS, Row
from gkore.errors import UsageError


def help_text(name: str) -> str:
    """What ``gkore --help NAME`` prints. UsageError when there is no such directive."""
    rows = ROWS.get(name)
    if not rows:
        near = nearest(name, ROWS)
        raise UsageError(f"there is no directive {name}" + (f', did you mean "{near}"?' if near else ""))
    return "\n".join("\n".join(help_lines(row)) for row in rows)


def help_lines(row: Row) -> Iterator[str]:
    yield row.usage
    yield f"    {row.doc}"
    yield from (f"    {label}: {text}" for label, text in facts(row))
    yield ""


def facts(row: Row) -> Iterator[tuple[str, str]]:
    """What there is to know about a row besides its usage and its doc."""
    yield "stands", " or ".join(CONTEXTS[context] for context in row.contexts) or "in Python only"
    for argument in row.arguments:
        if argument.label != argument.kind.expected:
            yield argument.label, argument.kind.expected + (", may be left out" if argument.optional else "")
    if row.setting:
        yield "default", default(row)
        yield "from Python", f"kore.config.{row.name}"
    if row.aliases:
        yield "also called", ", ".join(row.aliases)
    yield "since", "gkore only" if row.since == "gkore" else f"Kore {row.since}"
    if row.refusal:
        yield "refused", row.refusal


def default(row: Row) -> str:
    """A default for people; one that depends on the machine is described by the row's doc."""
    if row.name == "workers":
        return "the number of usable CPUs"
    return ", ".join(row.show(row.initial())) or "none"


def markdown() -> str:
    """docs/directives.md."""
    return "\n".join(pages()) + "\n"


def pages() -> Iterator[str]:
    yield "# Directives"
    yield ""
    yield "Made from the table in `gkore/conf/directives.py` by `python -m gkore.conf.manual`; don't edit it by hand."
    yield ""
    yield "A line is a name and its arguments. A block ends with a `}` on a line of its own, `#` begins a comment, and"
    yield "`$NAME` as an argument is an environment variable. Relative paths start at the working directory."
    yield ""
    yield "Structure: " + ", ".join(anchors()) + ". Plain values are [settings](#settings)."
    yield ""
    yield "## Structure"
    yield ""
    for row in STRUCTURE:
        yield from section(row)
    yield "## Settings"
    yield ""
    yield "At the top of a conf, or from Python as `kore.config.NAME = value`. `gkore --print-config` shows them all."
    yield ""
    yield "| setting | default | meaning | since |"
    yield "| --- | --- | --- | --- |"
    for row in SETTINGS:
        yield f"| `{escaped(row.usage)}` | {escaped(default(row))} | {escaped(row.doc)} | {row.since} |"


def anchors() -> Iterator[str]:
    """A link to each name of the structure's; MkDocs makes an anchor of a heading's words, repeated ones numbered."""
    names: list[str] = []
    taken: dict[str, int] = {}
    for row in STRUCTURE:
        words = re.sub(r"[^\w\s-]", "", row.usage).strip().lower()
        anchor = re.sub(r"[-\s]+", "-", words)
        count = taken[anchor] = taken.get(anchor, -1) + 1
        if row.name not in names:
            names.append(row.name)
            yield f"[`{row.name}`](#{anchor}{f'_{count}' if count else ''})"


def section(row: Row) -> Iterator[str]:
    yield f"### `{row.usage}`"
    yield ""
    yield row.doc
    yield ""
    for label, text in facts(row):
        yield f"- {label}: {text}"
    yield ""


def escaped(text: str) -> str:
    return text.replace("|", "\\|")


def example() -> str:
    """Every directive as a commented conf: a start for one's own."""
    return "\n".join(example_lines()) + "\n"


def example_lines() -> Iterator[str]:
    yield "# Every directive of gkore. Take away the # in front of what you need."
    for row in TABLE:
        if row.refusal or not row.contexts:
            continue
        yield ""
        yield f"# {row.doc}"
        shown = row.show(row.initial()) if row.setting else []
        yield f"# {row.name} {shown[0]}" if shown else f"# {row.usage}"


if __name__ == "__main__":
    print(example() if sys.argv[1:] == ["example"] else markdown(), end="")
