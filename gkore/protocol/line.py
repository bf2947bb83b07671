"""The request line, understood: method, target and version, checked once and remembered.

Clients ask for the same few lines again and again, so a line that was understood is kept in a bounded table: a repeated
line costs one look-up. Lines with a query string seldom repeat: of these the rest is kept, and a query put to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gkore.errors import ProtocolError

METHODS: Mapping[bytes, int] = MappingProxyType(
    {b"GET": 1, b"POST": 2, b"PUT": 4, b"DELETE": 16, b"HEAD": 32, b"OPTIONS": 64, b"PATCH": 128}
)
"""Method to Kore's number (http.h: the numbers are bits, 8 is not used)."""

KNOWN_MAX: Final = 1024
known: dict[bytes, RequestLine] = {}
"""Lines that were understood before; everybody may look, only ``read_line`` writes."""

_ABSOLUTE = re.compile(rb"https?://([^/?#]+)(/[^?#]*)?\Z", re.IGNORECASE)


class RequestLine:
    """One request line, made by ``read_line``, or by ``ask`` from another."""

    __slots__ = ("_asked", "authority", "bare", "logged", "method", "minor", "path", "verb")

    bare: bytes
    """The line without its query: all that decides on a route."""
    verb: bytes
    method: int
    minor: int
    authority: bytes
    """The host of an absolute-form target (RFC 9112 3.2.2: it wins over Host)."""
    logged: bytes
    """What it contributes to an access log's line, once it was made."""
    path: str
    _asked: bytes

    def ask(self, query: bytes) -> RequestLine:
        """The same line with ``query``, which begins with ``?``. ProtocolError 400 when it can have none."""
        if self.path == "*":
            raise ProtocolError(400, "OPTIONS * has no query")
        other = RequestLine()
        other.bare = self.bare
        other.verb = self.verb
        other.method = self.method
        other.minor = self.minor
        other.authority = self.authority
        other.logged = b""
        other.path = self.path
        other._asked = query
        return other

    @property
    def query(self) -> bytes:
        """What stands behind the question mark."""
        return self._asked[1:]

    @property
    def target(self) -> bytes:
        """Path and query as sent, without the host of an absolute form."""
        return self.path.encode() + self._asked


def read_line(text: bytes) -> RequestLine:
    """The meaning of ``text``, a line that llhttp accepted. ProtocolError 400, 501 (method) or 505 (version)."""
    path, mark, rest = text.partition(b"?")
    if not mark:
        return known.get(text) or _learn(text)
    query, space, version = rest.partition(b" ")
    if b"#" in query:
        raise ProtocolError(400, "a request target has no fragment")
    bare = path + space + version
    return (known.get(bare) or _learn(bare)).ask(mark + query)


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
    line = RequestLine()
    line.bare = text
    line.verb = verb
    line.method = METHODS[verb]
    line.minor = version[-1] - 48
    line.authority = b""
    line.logged = b""
    if target[:1] != b"/":
        line.authority, target = _other_form(verb, target)
    line.path = target.decode("ascii")
    line._asked = b""
    if len(known) >= KNOWN_MAX:
        known.clear()
    known[text] = line
    return line


def _other_form(verb: bytes, target: bytes) -> tuple[bytes, bytes]:
    """Authority and path of a target that is no path."""
    if target == b"*" and verb == b"OPTIONS":
        return b"", target
    absolute = _ABSOLUTE.match(target)
    if absolute is None or b"@" in absolute.group(1):
        raise ProtocolError(400, "request target is neither a path nor an http URL")
    authority, path = absolute.groups()
    return authority, path or b"/"
