r"""POSIX extended regular expressions, as Kore's conf has them, on Python's ``re``.

What is translated, so that an expression keeps its meaning:

    $                    \Z           Python's $ also matches before a last newline: "1\n" would pass ^[0-9]+$
    [[:alpha:]]          [A-Za-z]     the classes of the C locale, in which Kore runs
    [[.-.]] [[=a=]]      [\-] [a]
    \< \> \` \'          \b \b \A \Z  GNU's additions
    .                    DOTALL       POSIX has no special newline
    \w \d \s             ASCII

What stays Python's: alternatives are tried from left to right (POSIX takes the longest), a backslash inside brackets
escapes, and ``(?...)`` means what it does in Python, since no valid Kore conf can hold it.
"""

from __future__ import annotations

import re
import warnings

from gkore.conf.diagnostics import Wrong, nearest

CLASSES = {
    "alpha": "A-Za-z",
    "digit": "0-9",
    "alnum": "A-Za-z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": " \\t-\\r",
    "blank": " \\t",
    "punct": "!-/:-@\\[-`{-~",
    "print": " -~",
    "graph": "!-~",
    "cntrl": "\\x00-\\x1f\\x7f",
    "xdigit": "A-Fa-f0-9",
}
OUTSIDE = {"<": r"\b", ">": r"\b", "`": r"\A", "'": r"\Z"}
BACKREFERENCE = re.compile(r"\\[1-9]")
NAMED = re.compile(r"\[([:.=])(.+?)\1\]")


def compile_pattern(text: str, captures: bool = True) -> re.Pattern[str]:
    """``text`` compiled; Wrong, with the offset of the fault, when it can't be.

    Without ``captures`` its groups don't capture: a ``dynamic`` of Kore 3.2 hands none to its handler.
    """
    translation = Translation(text, captures or bool(BACKREFERENCE.search(text)))
    translation.run()
    source = "".join(translation.out)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "possible nested set" and its like: POSIX has no sets of sets
            return re.compile(source, re.ASCII | re.DOTALL)
    except re.error as error:
        position = error.pos if error.pos is not None else 0
        offset = translation.origin[position] if position < len(translation.origin) else max(0, len(text) - 1)
        raise Wrong(f"regular expression: {error.msg}", expected=EXPECTED, offset=offset, width=1) from None
    except (OverflowError, RecursionError, ValueError, MemoryError) as error:
        raise Wrong(f"regular expression: {str(error) or type(error).__name__}", expected=EXPECTED) from None


EXPECTED = "a POSIX extended regular expression"


class Translation:
    """One pass over a POSIX expression; ``origin`` says for each character of ``out`` which one of ``text`` made it."""

    def __init__(self, text: str, captures: bool) -> None:
        self.text, self.captures = text, captures
        self.out: list[str] = []
        self.origin: list[int] = []

    def run(self) -> None:
        index = 0
        while index < len(self.text):
            index = self._outside(index)

    def _emit(self, piece: str, index: int) -> None:
        self.out.append(piece)
        self.origin += [index] * len(piece)

    def _outside(self, index: int) -> int:
        """Translate what stands at ``index``, outside brackets; the index of what follows."""
        text, character = self.text, self.text[index]
        if character == "\\" and index + 1 < len(text):
            follows = text[index + 1]
            self._emit(OUTSIDE.get(follows, "\\" + follows), index)
            return index + 2
        if character == "[":
            return self._bracket(index)
        if character == "$":
            self._emit(r"\Z", index)
        elif character == "(" and not self.captures and text[index + 1 : index + 2] != "?":
            self._emit("(?:", index)
        else:
            self._emit(character, index)
        return index + 1

    def _bracket(self, start: int) -> int:
        """Translate the bracket expression that opens at ``start``."""
        text, index = self.text, start + 1
        self._emit("[", start)
        if text.startswith("^", index):
            self._emit("^", index)
            index += 1
        if text.startswith("]", index):  # first in a bracket, it is one of the set
            self._emit("\\]", index)
            index += 1
        while index < len(text) and text[index] != "]":
            index = self._member(index)
        if index < len(text):
            self._emit("]", index)
        return index + 1

    def _member(self, index: int) -> int:
        text, character = self.text, self.text[index]
        if character == "\\" and index + 1 < len(text):
            self._emit(text[index : index + 2], index)
            return index + 2
        if named := NAMED.match(text, index):
            self._emit(member_of(named, index), index)
            return named.end()
        self._emit("\\" + character if character in "[&~|" else character, index)
        return index + 1


def member_of(named: re.Match[str], index: int) -> str:
    """What ``[:class:]``, ``[.x.]`` or ``[=x=]`` stands for inside Python's brackets."""
    kind, name = named.groups()
    if kind == ":" and name in CLASSES:
        return CLASSES[name]
    if kind != ":" and len(name) == 1:
        return re.escape(name)
    raise Wrong(
        f"regular expression: unknown class {named[0]}",
        expected="one of " + ", ".join(sorted(CLASSES)),
        suggestion=f"[:{found}:]" if (found := nearest(name, CLASSES)) else "",
        offset=index,
        width=len(named[0]),
    )
