"""The header fields of a request, read once and remembered.

A client that keeps its connection sends the same block of fields with every request, byte for byte: programs, proxies
and load generators always, browsers until the referring page changes. So a block that was read twice is kept in a
bounded table, and costs a look-up from then on (0.15 us). A block is only kept when it names a host and announces no
body and no upgrade: a chunk that ends in a kept block is one whole request, and lacks nothing.

What tells one browser from the next is its cookie, so blocks are kept without it, in a table of their own: those of
5,000 browsers are one, and each costs a copy with another cookie in its place (0.7 us, where reading all took 3).

Blocks that come once are not kept: they would only push others out of the table and of the processor's caches. But
most of their rows are those of others, and rows are remembered too: a browser's ten fields are read in 2.5 us, not 6.

llhttp sees every byte of every request before it is believed; a block that it refuses is never kept here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from gkore.errors import ProtocolError

KEPT_MAX: Final = 512
KEPT_BYTES_MAX: Final = 2048
"""At most 512 blocks of 2 KiB are kept in each table: 2 MiB, and about as much again for what was read from them."""
SEEN_MAX: Final = 1024
ROWS_MAX: Final = 1024
ROW_BYTES_MAX: Final = 256

COOKIE: Final = b"\r\nCookie: "
"""As browsers write it; whoever writes it in another way is read in full."""
COOKIE_SIZE: Final = len(COOKIE)

_kept: dict[bytes, Fields] = {}
_crumbless: dict[bytes, Fields] = {}
"""Blocks that had a cookie, without it; what was read from them, with an empty one."""
_met: set[int] = set()
"""Hashes of what came once. Two with one hash do no harm: one is kept a little early."""
_rows: dict[bytes, tuple[bytes, bytes]] = {}
_row = _rows.get

_CLOSE = re.compile(rb"(?:^|[,\s])close(?:[,\s]|$)")
_UPGRADE = re.compile(rb"(?:^|[,\s])upgrade(?:[,\s]|$)")
_KEEP = re.compile(rb"(?:^|[,\s])keep-alive(?:[,\s]|$)")


class Fields:
    """One block of header fields: names in lower case, the first value of a name, later ones beside.

    Made by ``read_fields``, or by ``with_cookie`` from another.
    """

    __slots__ = ("_first", "_more", "closes", "count", "host", "keeps", "logged", "upgrade")

    _first: dict[bytes, bytes]
    _more: Sequence[tuple[bytes, bytes]]
    count: int
    host: bytes | None
    closes: bool
    keeps: bool
    upgrade: bytes
    logged: bytes
    """What they contribute to an access log's line, once it was made."""

    def with_cookie(self, value: bytes) -> Fields:
        """The same fields with another cookie."""
        other = Fields()
        other._first = first = self._first.copy()
        first[b"cookie"] = value
        other._more = self._more
        other.count = self.count
        other.host = self.host
        other.closes = self.closes
        other.keeps = self.keeps
        other.upgrade = self.upgrade
        other.logged = self.logged
        return other

    def get(self, name: bytes) -> bytes | None:
        """The first value of ``name`` (lower case), or None; Kore's rule for repeated fields."""
        return self._first.get(name)

    def any_of(self, names: frozenset[bytes]) -> bool:
        """Whether one of ``names`` (lower case) was sent."""
        return not names.isdisjoint(self._first)

    def all(self, name: bytes) -> list[bytes]:
        """Every value of ``name`` (lower case), in order of arrival."""
        if name not in self._first:
            return []
        return [self._first[name], *(value for other, value in self._more if other == name)]

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Every field once, the repeated ones behind the others."""
        yield from self._first.items()
        yield from self._more

    def __len__(self) -> int:
        return self.count


def read_fields(block: bytes) -> Fields:
    """The fields of ``block``, rows that llhttp accepted and an empty one. ProtocolError 400 for two Host fields."""
    rows = block.split(b"\r\n")
    del rows[-2:]
    pairs = [_row(row) or _read(row) for row in rows]
    fields = Fields()
    fields.count = len(pairs)
    fields._first = first = dict(pairs)
    more: Sequence[tuple[bytes, bytes]] = () if len(first) == len(pairs) else _repeated(first, pairs)
    fields._more = more
    fields.logged = b""
    fields.host = first.get(b"host")
    fields.closes = fields.keeps = False
    fields.upgrade = b""
    connection = first.get(b"connection")
    if connection == b"keep-alive" and not more:
        fields.keeps = True
    elif connection is not None:
        options = b",".join(fields.all(b"connection")).lower()
        fields.closes = _CLOSE.search(options) is not None
        fields.keeps = _KEEP.search(options) is not None
        if _UPGRADE.search(options):
            fields.upgrade = first.get(b"upgrade", b"").lower()
    return fields


def _repeated(first: dict[bytes, bytes], pairs: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """A name comes twice: ``first`` is to hold the first value of each, the others are returned."""
    first.clear()
    more = []
    for name, value in pairs:
        if name in first:
            more.append((name, value))
        else:
            first[name] = value
    if any(name == b"host" for name, _ in more):
        raise ProtocolError(400, "two Host fields")
    return more


def _read(row: bytes) -> tuple[bytes, bytes]:
    name, _, value = row.partition(b":")
    pair = name.lower(), value.strip(b" \t")
    if len(row) <= ROW_BYTES_MAX:
        if len(_rows) >= ROWS_MAX:
            _rows.clear()
        _rows[row] = pair
    return pair


def kept(block: bytes) -> Fields | None:
    """The fields of a block that was read before, with any cookie; else None."""
    at = block.find(COOKIE)
    if at < 0:
        return _kept.get(block)
    end = block.find(b"\r\n", at + COOKIE_SIZE)
    like = _crumbless.get(block[:at] + block[end:])
    return None if like is None else like.with_cookie(block[at + COOKIE_SIZE : end].strip(b" \t"))


def met(data: bytes) -> bool:
    """Whether ``data`` was here before, and may be worth being kept. Forgets all when it has met SEEN_MAX."""
    number = hash(data)
    if number in _met:
        return True
    if len(_met) >= SEEN_MAX:
        _met.clear()
    _met.add(number)
    return False


def keep(block: bytes, fields: Fields) -> None:
    """Remember what ``block`` says, if it was here before."""
    table = _kept
    at = block.find(COOKIE)
    if at >= 0:
        if len(fields.all(b"cookie")) > 1:
            return
        block = block[:at] + block[block.find(b"\r\n", at + COOKIE_SIZE) :]
        fields = fields.with_cookie(b"")
        table = _crumbless
    if len(block) <= KEPT_BYTES_MAX and met(block):
        if len(table) >= KEPT_MAX:
            table.clear()
        table[block] = fields
