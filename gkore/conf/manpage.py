"""Man pages, derived as the manual is: gkore(8) from the command's help, kore.conf(5) from THE TABLE."""

from __future__ import annotations

from collections.abc import Iterator

from gkore import __version__
from gkore.conf.directives import SETTINGS, STRUCTURE
from gkore.conf.manual import facts
from gkore.conf.row import Row


def command_page(help_text: str) -> str:
    """gkore(8) in troff; ``help_text`` is what ``gkore --help`` prints."""
    return "\n".join(
        (
            header("GKORE", 8),
            ".SH NAME",
            "gkore \\- serve Kore applications",
            ".SH SYNOPSIS",
            ".nf",
            *(escaped(line) for line in help_text.splitlines()),
            ".fi",
            ".SH SEE ALSO",
            ".BR kore.conf (5)",
            "",
        )
    )


def conf_page() -> str:
    """kore.conf(5) in troff."""
    return "\n".join(conf_lines()) + "\n"


def conf_lines() -> Iterator[str]:
    yield header("KORE.CONF", 5)
    yield ".SH NAME"
    yield "kore.conf \\- what gkore serves"
    yield ".SH DESCRIPTION"
    yield "A line is a name and its arguments. A block ends with a } on a line of its own, # begins a comment, and"
    yield "$NAME as an argument is an environment variable. Relative paths start at the working directory."
    yield ".SH STRUCTURE"
    for row in STRUCTURE:
        yield from entry(row)
    yield ".SH SETTINGS"
    yield "At the top of a conf, or from Python as kore.config.NAME = value."
    for row in SETTINGS:
        yield from entry(row)
    yield ".SH SEE ALSO"
    yield ".BR gkore (8)"


def entry(row: Row) -> Iterator[str]:
    yield ".TP"
    yield f".B {escaped(row.usage)}"
    yield escaped(row.doc)
    for label, text in facts(row):
        yield ".br"
        yield escaped(f"{label}: {text}")


def header(title: str, section: int) -> str:
    return f'.TH {title} {section} "" "gkore {__version__}"'


def escaped(text: str) -> str:
    """``text`` so that troff prints it as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
