"""Text to lines of words, each with its place.

The rules are Kore's (config.c, utils.c), made tolerant where no valid file changes its meaning:

- One directive a line: name, blanks, value. No quoting, no continuation. Names are case-sensitive.
- ``#`` as the first character of a line makes it a comment. Further right a word that begins with ``#`` makes the
  rest one where the value is words, none of which can begin so; Kore takes it for data.
- ``}`` may have trailing blanks, a carriage return or a comment behind it; Kore then overlooks it.
- A line of 8192 bytes or more is refused; Kore cuts it into pieces without a word.
- ``$NAME`` as a whole value, or as a whole word where words are names or numbers, is one of the environment (Kore 4.2).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gkore.conf.diagnostics import Mistake, Wrong, nearest
from gkore.conf.site import Place

LINE_MAX = 8192
"""Kore's line buffer (utils.c): this many bytes don't fit any more."""
FILE_MAX = 16 * 1024 * 1024
VARIABLE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
PIECE = re.compile(r"[^ \t]+")


@dataclass(slots=True, frozen=True)
class Word:
    """A piece of a line: its text, the column of its first character (from 1), how many characters it covers there."""

    text: str
    column: int
    width: int

    @classmethod
    def at(cls, text: str, column: int) -> Word:
        return cls(text, column, max(1, len(text)))


@dataclass(slots=True, frozen=True)
class Line:
    """One line that says something: the directive's name and its value, trimmed at both ends."""

    file: str
    number: int
    source: str
    name: Word
    value: Word

    def place(self, word: Word | None = None) -> Place:
        return Place(self.file, self.number, (word or self.name).column)

    def mistake(self, word: Word, message: str, expected: str = "", suggestion: str = "") -> Mistake:
        """A mistake whose caret stands under ``word``."""
        return Mistake(self.place(word), message, self.source, word.width, expected, suggestion)

    def wrong(self, word: Word, why: Wrong) -> Mistake:
        """``why`` as a mistake in ``word``, or in the part of it that ``why`` names."""
        whole = word.width != len(word.text)  # a variable's content: there is nothing inside to point at
        column = word.column if whole else word.column + why.offset
        width = word.width if whole or why.width is None else why.width
        return Mistake(
            Place(self.file, self.number, column), why.message, self.source, width, why.expected, why.suggestion
        )

    def words(self) -> list[Word]:
        """The value's words; a trailing comment is not among them."""
        found = pieces(self.value)
        for index, word in enumerate(found):
            if word.text.startswith("#") and word.width == len(word.text):
                return found[:index]
        return found

    def split(self, word: Word) -> tuple[Line, Line]:
        """The line before one of its words, and a line that begins with it."""
        cut = word.column - self.value.column
        before, behind = self.value.text[:cut].rstrip(), self.value.text[cut + len(word.text) :]
        value = Word.at(behind.strip(), word.column + len(word.text) + len(behind) - len(behind.lstrip()))
        return replace(self, value=Word.at(before, self.value.column)), replace(self, name=word, value=value)

    def closes(self) -> bool:
        return self.name.text == "}" and not self.words()


def pieces(value: Word) -> list[Word]:
    """``value`` cut at its blanks; pieces of a variable's content all stand where the variable stands."""
    if value.width != max(1, len(value.text)):
        return [Word(piece, value.column, value.width) for piece in value.text.split()]
    return [Word.at(found[0], value.column + found.start()) for found in PIECE.finditer(value.text)]


def read(path: str) -> bytes:
    """A conf file's bytes. OSError as open(2), ValueError when it is larger than FILE_MAX."""
    with open(path, "rb") as file:
        data = file.read(FILE_MAX + 1)
    if len(data) > FILE_MAX:
        raise ValueError(f"larger than {FILE_MAX} bytes")
    return data


def lines(data: bytes, file: str) -> Iterator[Line | Mistake]:
    """The lines of a conf that say something, and the mistakes of those that can't be read."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    for number, raw in enumerate(data.split(b"\n"), 1):
        raw = raw.removesuffix(b"\r")
        text = raw.decode("utf-8", "surrogateescape")
        body = text.lstrip(" \t\v\f\r")
        if not body or body.startswith("#"):
            continue
        yield unreadable(raw, text, Place(file, number, 1)) or split(text, body, file, number)


def unreadable(raw: bytes, text: str, place: Place) -> Mistake | None:
    """The mistake of a line that is too long, not UTF-8, or holds a NUL."""
    shown = text[:120]
    if len(raw) >= LINE_MAX:
        return Mistake(place, f"line of {len(raw)} bytes", shown, len(shown), f"at most {LINE_MAX - 1} bytes")
    for column, character in enumerate(text, 1):
        if character == "\0" or "\ud800" <= character <= "\udfff":
            what = "a NUL byte" if character == "\0" else f"byte 0x{ord(character) & 0xFF:02x}, which is not UTF-8"
            return Mistake(Place(place.file, place.line, column), what, text, 1, "text in UTF-8")
    return None


def split(text: str, body: str, file: str, number: int) -> Line:
    column = len(text) - len(body) + 1
    end = next((index for index, character in enumerate(body) if character in " \t"), len(body))
    name = Word.at(body[:end], column)
    rest = body[end:]
    value = rest.strip(" \t\v\f\r")
    return Line(file, number, text, name, Word.at(value, column + end + len(rest) - len(rest.lstrip(" \t\v\f\r"))))


def substitute(word: Word) -> Word:
    """``word`` with an environment variable's content when it is ``$NAME``. Wrong when that is not set (Kore 4.2)."""
    if not VARIABLE.fullmatch(word.text):
        return word
    name = word.text[1:]
    content = os.environ.get(name)
    if content is None:
        raise Wrong(
            f"environment variable {word.text} is not set",
            expected="a variable that is set when gkore starts",
            suggestion="$" + found if (found := nearest(name, os.environ)) else "",
        )
    if "\0" in content or not content.isprintable():
        raise Wrong(f"environment variable {word.text} holds control characters or bytes that are not UTF-8")
    return Word(content.strip(), word.column, word.width)
