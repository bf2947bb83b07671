"""A line matched against its row: arguments by label, converted, each with the word that it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gkore.conf.diagnostics import Mistake, Wrong
from gkore.conf.row import Argument, Row
from gkore.conf.site import Place
from gkore.conf.words import Line, Word, pieces, substitute


@dataclass(slots=True)
class Statement:
    """One directive with its arguments; ``mistakes`` says what is wrong with them, ``values`` holds those that hold."""

    row: Row
    line: Line
    values: dict[str, Any] = field(default_factory=dict)
    words: dict[str, Word] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    opened: bool = False
    """The line ends with ``{``."""

    @property
    def place(self) -> Place:
        return self.line.place()

    def __getitem__(self, label: str) -> Any:
        """The argument, or "" when it was left out or is wrong."""
        return self.values.get(label, "")

    def text(self, label: str) -> str:
        """The argument as it was written."""
        word = self.words.get(label)
        return word.text if word else ""

    def word(self, label: str) -> Word:
        """Where the argument stands; the directive's name when it was left out."""
        return self.words.get(label, self.line.name)

    def mistake(self, label: str, message: str, expected: str = "", suggestion: str = "") -> Mistake:
        return self.line.mistake(self.word(label), message, expected, suggestion)

    def wrong(self, label: str, why: Wrong) -> Mistake:
        return self.line.wrong(self.word(label), why)

    def refuse(self, word: Word, message: str, *, lenient: bool = False) -> None:
        mistake = self.line.mistake(word, message, self.row.usage)
        self.mistakes.append(replace(mistake, lenient=lenient))


def match(row: Row, line: Line) -> Statement:
    """Match ``line`` against ``row``; what is wrong is in the result's ``mistakes``."""
    statement = Statement(row, line)
    try:
        line = replace(line, value=substitute(line.value))
    except Wrong as why:
        statement.mistakes.append(line.wrong(line.value, why))
        return statement
    words = free_words(row, line) if ends_free(row) else line.words()
    if row.opens:
        words = cut_brace(statement, words)
    deal(statement, words)
    return statement


def ends_free(row: Row) -> bool:
    return bool(row.arguments) and row.arguments[-1].kind.free


def free_words(row: Row, line: Line) -> list[Word]:
    """The words of a row whose last argument is the rest of the line."""
    found = pieces(line.value)
    before = len(row.arguments) - 1
    if len(found) <= before:
        return found
    rest = found[before]
    if rest.width == max(1, len(rest.text)):  # not out of a variable
        start = rest.column - line.value.column
        rest = Word.at(line.value.text[start:], rest.column)
    elif not before:
        rest = line.value
    return [*found[:before], rest]


def cut_brace(statement: Statement, words: Sequence[Word]) -> list[Word]:
    """The words before the ``{`` of a block; a block without one is a mistake unless the row does without."""
    if words and words[-1].text == "{":
        statement.opened = True
        return list(words[:-1])
    if words and words[-1].text.endswith("{"):
        statement.opened = True
        last = words[-1]
        statement.refuse(last, "there must be a blank before {")
        return [*words[:-1], Word.at(last.text[:-1], last.column)]
    if statement.row.braces:
        statement.refuse(words[-1] if words else statement.line.name, "{ is missing at the end of the line")
        statement.opened = True  # what follows is meant to stand in the block
    return list(words)


def deal(statement: Statement, words: list[Word]) -> None:
    """Give each argument its word, convert it, and say what is missing or too much."""
    for argument in statement.row.arguments:
        if not words:
            if not argument.optional:
                statement.refuse(statement.line.name, f"{argument.label} is missing")
            continue
        taken, words = (words, []) if argument.many else (words[:1], words[1:])
        take(statement, argument, taken)
    if words:
        surplus = Word(words[0].text, words[0].column, words[-1].column + words[-1].width - words[0].column)
        statement.refuse(surplus, f"{statement.line.name.text} takes no more words here", lenient=True)


def take(statement: Statement, argument: Argument, words: Sequence[Word]) -> None:
    values, statement.words[argument.label] = [], words[0]
    for word in words:
        try:
            word = word if argument.kind.literal else substitute(word)
            if argument.kind.free and not argument.kind.literal and " #" in word.text:
                raise Wrong("a comment can't follow here", expected="the comment on a line of its own")
            values.append(argument.kind.convert(word.text))
        except Wrong as why:
            statement.mistakes.append(statement.line.wrong(word, why))
    if len(values) == len(words):
        statement.values[argument.label] = values if argument.many else values[0]
