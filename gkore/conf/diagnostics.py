"""A mistake in a conf: where, what, what was expected, and the nearest name that would have been right.

etc/kore.conf:7:1: error: "worker" is not a directive
    worker 4
    ^^^^^^
  expected: a directive that may stand at the top of a conf
  did you mean "workers"?
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TextIO

from gkore.conf.site import Place

RED, BOLD, CYAN, PLAIN = "\033[31m", "\033[1m", "\033[36m", "\033[0m"
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(slots=True, frozen=True)
class Mistake:
    """One mistake; ``width`` is how many characters of ``source`` are wrong, ``detail`` a traceback."""

    place: Place
    message: str
    source: str = ""
    width: int = 1
    expected: str = ""
    suggestion: str = ""
    detail: str = ""
    lenient: bool = False
    """Kore would have passed over it: with ``config_strict no`` so do we."""

    def render(self, colour: bool = False) -> str:
        """The mistake as lines of text, without a last newline."""
        red, bold, cyan, plain = (RED, BOLD, CYAN, PLAIN) if colour else ("", "", "", "")
        lines = [f"{bold}{self.place}:{plain} {red}error:{plain} {printable(self.message)}"]
        if self.source and self.place.column:
            indent = " " * (self.place.column + 3)
            lines += [f"    {printable(self.source)}", f"{indent}{red}{self._caret()}{plain}"]
        if self.expected:
            lines.append(f"  {cyan}expected:{plain} {printable(self.expected)}")
        if self.suggestion:
            lines.append(f'  did you mean "{cyan}{printable(self.suggestion)}{plain}"?')
        lines += [f"  {line}" for line in self.detail.rstrip().splitlines()]
        return "\n".join(lines)

    def _caret(self) -> str:
        room = len(self.source) - self.place.column + 1
        return "^" * max(1, min(self.width, room))


class Wrong(Exception):
    """A value that isn't what it should be; whoever knows its place makes a Mistake of it."""

    def __init__(
        self, message: str, *, expected: str = "", suggestion: str = "", offset: int = 0, width: int | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.expected, self.suggestion = message, expected, suggestion
        self.offset, self.width = offset, width


def printable(text: str) -> str:
    """``text`` with every control character and broken byte as ``?``, tabs as blanks: the caret stays."""
    return UNPRINTABLE.sub("?", text.replace("\t", " "))


def nearest(word: str, known: Iterable[str]) -> str:
    """The known name that ``word`` was probably meant to be, or ""."""
    names = sorted(set(known))
    lowered = {name.lower(): name for name in reversed(names)}
    found = get_close_matches(word.lower()[:200], lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else ""


def in_order(mistakes: Iterable[Mistake], files: Sequence[str]) -> list[Mistake]:
    """The mistakes by place: files in the order in which they were opened, then line, then column."""
    rank = {file: number for number, file in enumerate(files)}
    return sorted(mistakes, key=lambda one: (rank.get(one.place.file, len(rank)), one.place.line, one.place.column))


def report(mistakes: Iterable[Mistake], stream: TextIO) -> None:
    """Print all mistakes, in colour when ``stream`` is a terminal and NO_COLOR is unset (https://no-color.org)."""
    colour = stream.isatty() and not os.environ.get("NO_COLOR")
    for mistake in mistakes:
        print(mistake.render(colour), file=stream)
