"""The first message of a TLS client (RFC 8446 4.1.2), as far as a server must know it before it answers: a name.

It is read before OpenSSL sees it, because only then the whole context can be chosen by the name: OpenSSL's callback
changes the certificate of a connection that exists, but not whether client certificates are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

RECORD_HEAD = 5
RECORD_MAX = 16384
MESSAGE_HEAD = 4
HELLO_MAX = 65536
HANDSHAKE, CLIENT_HELLO = 22, 1
SERVER_NAME, ALPN = 0, 16
ACME_PROTOCOL = b"acme-tls/1"
"""What a CA offers that checks a challenge (RFC 8737 6.2)."""
FIXED = 2 + 32
"""Version and random."""


class Incomplete(NamedTuple):
    """More must come: at least so many bytes in all."""

    size: int


@dataclass(slots=True, frozen=True)
class Hello:
    """What the client says of itself: the name that it wants, in lower case, and the protocols that it offers."""

    name: str = ""
    protocols: tuple[bytes, ...] = ()


def read_hello(data: bytes) -> Hello | Incomplete | None:
    """The hello at the start of ``data``; None when this is no TLS. One that makes no sense has no name.

    How many bytes must come is the least that the rest can be. Who waits for so many reads a hello anew only when a
    sixth of its rest is there, in however small records it comes: not for each of ten thousand.
    """
    message = bytearray()
    at = 0
    while not _whole(message):
        if len(data) < at + RECORD_HEAD:
            return _incomplete(at, 0, message) if data[at : at + 1] in (b"", b"\x16") else None
        length = int.from_bytes(data[at + 3 : at + 5])
        if data[at] != HANDSHAKE or data[at + 1] != 3 or length > RECORD_MAX:
            return None if at == 0 else Hello()
        if len(data) < at + RECORD_HEAD + length:
            return _incomplete(at, length, message)
        at += RECORD_HEAD + length
        message += data[at - length : at]
    try:
        return _hello(bytes(message[: _size(message)])) if message[0] == CLIENT_HELLO else Hello()
    except (IndexError, UnicodeDecodeError):
        return Hello()


def _whole(message: bytes | bytearray) -> bool:
    """Whether nothing that follows could say more."""
    return len(message) >= MESSAGE_HEAD and (message[0] != CLIENT_HELLO or len(message) >= _size(message))


def _size(message: bytes | bytearray) -> int:
    return MESSAGE_HEAD + int.from_bytes(message[1:MESSAGE_HEAD])


def _incomplete(at: int, length: int, message: bytearray) -> Incomplete | Hello:
    """A record of ``length`` bytes, or an unknown number, is missing at ``at``, where ``message`` ends."""
    size = at + RECORD_HEAD + length
    if len(message) >= MESSAGE_HEAD:
        rest = _size(message) - len(message) - length
        size += rest if not length else RECORD_HEAD + rest if rest > 0 else 0
    return Incomplete(size) if size <= HELLO_MAX else Hello()


def _hello(message: bytes) -> Hello:
    reader = Reader(message, MESSAGE_HEAD + FIXED)
    reader.take(1)  # session
    reader.take(2)  # ciphers
    reader.take(1)  # compression
    extensions = Reader(reader.take(2))
    name, protocols = "", []
    while extensions.left:
        kind, body = extensions.number(2), Reader(extensions.take(2))
        if kind == SERVER_NAME:
            names = Reader(body.take(2))
            if names.number(1) == 0:  # host_name, the only kind there is (RFC 6066 3)
                name = names.take(2).decode("ascii").lower().rstrip(".")
        elif kind == ALPN:
            offered = Reader(body.take(2))
            while offered.left:
                protocols.append(offered.take(1))
    return Hello(name, tuple(protocols))


class Reader:
    """Numbers and vectors, one after the other. IndexError when there are no more."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self._at = at

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def number(self, size: int) -> int:
        return int.from_bytes(self._bytes(size))

    def take(self, size: int) -> bytes:
        """A vector whose length is a number of ``size`` bytes."""
        return self._bytes(self.number(size))

    def _bytes(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise IndexError
        found = self._data[self._at : end]
        self._at = end
        return found
