"""``$1`` in SQL: where it is a parameter, and where it is text.

PostgreSQL's lexer decides (scan.l): not inside of quotes, dollar quotes, comments or identifiers. What is put in its
place stands in parentheses, so that it can't grow together with its neighbours: two adjacent string literals are one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

_TOKEN = re.compile(
    r"""
      (?P<plain> [^\W\d][\w$]*+ (?!')        # an identifier or keyword, which may hold $; not the E of E'...'
               | [^-/'"$\w]++ | \d++ | --[^\n]*+ )
    | (?P<escaped> [eE]' (?: [^'\\] | '' | \\. )*+ (?:'|\Z)
            (?: \s*[\r\n] (?: \s | --[^\n]*\n )* ' (?: [^'\\] | '' | \\. )*+ (?:'|\Z) )* )  # new line, same string
    | (?P<string> (?: [uU]& | [bBxXnN] )? ' (?: [^'] | '' )*+ (?:'|\Z) )
    | (?P<name> " (?: [^"] | "" )*+ (?:"|\Z) )
    | (?P<comment> /\* )
    | \$(?P<number> \d+ )
    | (?P<dollar> \$ (?: [^\W\d]\w* )? \$ )
    | (?P<other> [^\W\d][\w$]* | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")
_COPY = re.compile(r"\s*copy\b.*\b(?:stdin|stdout)\b", re.IGNORECASE | re.DOTALL)


@lru_cache(maxsize=1024)
def split(sql: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The texts around the parameters of ``sql``, one more than these, and their numbers."""
    texts: list[str] = []
    numbers: list[int] = []
    begin = at = 0
    while at < len(sql):
        token = _TOKEN.match(sql, at)
        assert token is not None
        if token["number"]:
            texts.append(sql[begin:at])
            numbers.append(int(token["number"]))
            begin = token.end()
        at = _end(sql, token)
    return (*texts, sql[begin:]), tuple(numbers)


def _end(sql: str, token: re.Match[str]) -> int:
    """Where a token ends: comments nest, and a dollar quote ends with the words that it began with."""
    if token["comment"]:
        return _end_of_comment(sql, token.end())
    if token["dollar"]:
        found = sql.find(token["dollar"], token.end())
        return len(sql) if found < 0 else found + len(token["dollar"])
    return token.end()


def _end_of_comment(sql: str, at: int) -> int:
    depth = 1
    for mark in _COMMENT.finditer(sql, at):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return mark.end()
    return len(sql)


def fill(sql: str, literals: Sequence[bytes]) -> bytes:
    """``sql`` with each ``$n`` replaced by the n-th of ``literals``, which are quoted already.

    LookupError when the numbers do not go from 1 to the count of literals, with PostgreSQL's texts for it.
    """
    texts, numbers = split(sql)
    for number in numbers:
        if not 0 < number <= len(literals):
            raise LookupError(f"there is no parameter ${number}")
    if len(literals) > max(numbers, default=0):
        raise LookupError(f"{len(literals)} parameters were given, but the query requires {max(numbers, default=0)}")
    parts = [texts[0].encode()]
    for number, text in zip(numbers, texts[1:], strict=True):
        parts += (b"(", literals[number - 1], b")", text.encode())
    return b"".join(parts)


def is_copy(sql: str) -> bool:
    """Whether ``sql`` is a COPY from or to its client, which has no place in a query."""
    return _COPY.match(sql) is not None
