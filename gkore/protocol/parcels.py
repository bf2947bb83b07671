"""What broadcasts travel in between hosts: who sent it, its number, when; and the same in text pieces for PostgreSQL.

A parcel is ``host (8 bytes), sender (8), number, milliseconds`` and then the payload. The workers of one master share
``host`` and skip each other's parcels, which came over the bus; ``sender`` is one worker process, whose numbers have no
gaps: a gap is loss.
NOTIFY takes text of less than 8000 bytes, so there a parcel goes as pieces ``sender.number.index.count.base64``.
"""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

HEAD = struct.Struct("!8s8sQQ")
PIECE = 7000
"""Characters of base64 in one piece."""
UNFINISHED_MAX = 256
"""Senders whose parcel may be incomplete at the same time."""
SENDERS_MAX = 4096


class Parcel(NamedTuple):
    """One message between hosts."""

    host: bytes
    sender: bytes
    number: int
    milliseconds: int
    payload: bytes


def pack(parcel: Parcel) -> bytes:
    return HEAD.pack(parcel.host, parcel.sender, parcel.number, parcel.milliseconds) + parcel.payload


def unpack(data: bytes) -> Parcel:
    """ValueError for what is no parcel."""
    if len(data) < HEAD.size:
        raise ValueError(f"{len(data)} bytes are no parcel")
    host, sender, number, milliseconds = HEAD.unpack_from(data)
    return Parcel(host, sender, number, milliseconds, data[HEAD.size :])


class Gaps:
    """Which numbers of each sender did not come."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: OrderedDict[bytes, int] = OrderedDict()

    def missed(self, parcel: Parcel) -> int:
        """How many parcels are missing between this one and the sender's last; 0 for a sender's first."""
        last = self._last.pop(parcel.sender, None)
        self._last[parcel.sender] = parcel.number
        if len(self._last) > SENDERS_MAX:
            self._last.popitem(last=False)
        return 0 if last is None else max(0, parcel.number - last - 1)


def cut(data: bytes) -> Iterator[str]:
    """The pieces of a packed parcel."""
    _, sender, number, _ = HEAD.unpack_from(data)
    text = b64encode(data).decode("ascii")
    count = max(1, -(-len(text) // PIECE))
    for index in range(count):
        yield f"{sender.hex()}.{number}.{index}.{count}.{text[index * PIECE : (index + 1) * PIECE]}"


class Joiner:
    """Puts pieces together again; a sender's come in order, those of others in between."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: OrderedDict[str, tuple[str, list[str]]] = OrderedDict()

    def add(self, piece: str) -> bytes | None:
        """The packed parcel that ``piece`` completes, else None. ValueError for what is no piece."""
        sender, number, index, count, text = piece.split(".", 4)
        if index == "0":
            self._parts[sender] = (number, [])
            if len(self._parts) > UNFINISHED_MAX:
                self._parts.popitem(last=False)
        known, parts = self._parts.get(sender, ("", []))
        if known != number or len(parts) != int(index):
            self._parts.pop(sender, None)  # its beginning was lost: the gap in the numbers will tell
            return None
        parts.append(text)
        if len(parts) < int(count):
            return None
        del self._parts[sender]
        return b64decode("".join(parts), validate=True)
