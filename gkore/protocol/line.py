"""The request line, understood: method, target and version, checked once and remembered.

Clients ask for the same few lines again and again, so a line that was understood is kept in a bounded table: a repeated
line costs one look-up. Lines with a query string are not kept, they seldom repeat.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from gkore.errors import ProtocolError

METHODS: Mapping[bytes, int] = MappingProxyType(
    {b"GET": 1, b"POST": 2, b"PUT": 4, b"DELETE": 16, b"HEAD": 32, b"OPTIONS": 64, b"PATCH": 128}
)
"""Method to Kore's number (http.h: the numbers are bits, 8 is not used)."""

KNOWN_MAX = 1024
known: dict[bytes, RequestLine] = {}
"""Lines that were understood before; everybody may look, only ``read_line`` writes."""

_ABSOLUTE = re.compile(rb"https?://([^/?#]+)([^#]*)\Z", re.IGNORECASE)


class RequestLine:
    """One request line; ``authority`` is the host of an absolute-form target (RFC 9112 3.2.2: it wins over Host)."""

    __slots__ = ("authority", "logged", "method", "minor", "path", "query", "target", "text", "verb")

    def __init__(self, text: bytes, verb: bytes, target: bytes, minor: int) -> None:
        self.text = text
        self.verb = verb
        self.method = METHODS[verb]
        self.minor = minor
        self.authority = b""
        self.logged = b""
        """What it contributes to an access log's line, once it was made."""
        if target[:1] != b"/":
            target = self._other_form(target)
        self.target = target
        path, _, self.query = target.partition(b"?")
        self.path = path.decode("ascii")

    def _other_form(self, target: bytes) -> bytes:
        if target == b"*" and self.verb == b"OPTIONS":
            return target
        absolute = _ABSOLUTE.match(target)
        if absolute is None or b"@" in absolute.group(1):
            raise ProtocolError(400, "request target is neither a path nor an http URL")
        self.authority, rest = absolute.groups()
        return rest if rest[:1] == b"/" else b"/" + rest


def read_line(text: bytes) -> RequestLine:
    """The meaning of ``text``, a line that llhttp accepted. ProtocolError 400, 501 (method) or 505 (version)."""
    line = known.get(text)
    return line if line is not None else _learn(text)


def _learn(text: bytes) -> RequestLine:
    words = text.split(b" ")
    if len(words) != 3:
        raise ProtocolError(400, "request line is not three words")
    verb, target, version = words
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise ProtocolError(505, "HTTP version not supported")
    if verb[:1] == b"\n":
        raise ProtocolError(400, "an empty line that is no CRLF")  # llhttp passes over it
    if verb not in METHODS:
        raise ProtocolError(501, "method not implemented")
    if b"#" in target:
        raise ProtocolError(400, "a request target has no fragment")
    line = RequestLine(text, verb, target, version[-1] - 48)
    if not line.query:
        if len(known) >= KNOWN_MAX:
            known.clear()
        known[text] = line
    return line
