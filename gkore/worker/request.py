"""``req``: what a handler sees of a request and how it answers.

One object a request, made by the parser (it is a ``Head``), never used again. It has a ``__dict__``, so that
applications may hang their own attributes on it (Kore 4); what most requests leave alone lives on the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from gkore.protocol.cookies import parse_cookies
from gkore.protocol.head import Head
from gkore.protocol.query import parse_form, parse_query
from gkore.protocol.response import BODILESS, error_page, header_line
from gkore.worker import parameters
from gkore.worker.handshake import callbacks, handshake

if TYPE_CHECKING:
    from gkore.worker.connection import Connection
    from gkore.worker.routing import Action

HEAD = 32
JOIN_MAX = 16384
"""Up to this size head and body are copied into one piece: a copy costs less than a second system call."""


class Request(Head):
    """One HTTP request (``kore.http_request``)."""

    connection: Connection
    """The client's connection."""
    action: Action
    status: int = 0
    """What was answered; 0 until then."""
    _extra: list[bytes] | None = None
    _arguments: dict[str, str] | None = None
    _cookies: dict[str, str] | None = None
    _read: int = 0
    body_since: int = 0
    """When the body began to arrive, by the clock of the worker; 0 before that."""

    @property
    def host(self) -> str:
        """The Host header as sent, with its port."""
        return (self.line.authority or self.fields.host or b"").decode("latin-1")

    @property
    def path(self) -> str:
        """The path as sent: neither decoded nor normalised, without the query string."""
        return self.line.path

    @property
    def query(self) -> str:
        """The query string as sent, without ``?``. Ours: Kore's Python has none."""
        return self.line.query.decode("ascii", "replace")

    @property
    def method(self) -> int:
        """``kore.HTTP_METHOD_GET`` and its kin."""
        return self.line.method

    @property
    def agent(self) -> str | None:
        """The User-Agent header. Kore gives the path here by mistake."""
        return self.request_header("user-agent")

    @property
    def protocol(self) -> str:
        """``https`` or ``http`` (Kore 4.2)."""
        return self.connection.service.scheme

    @property
    def body(self) -> bytes:
        """The whole body; ``b""`` when there is none."""
        return self.content

    @property
    def body_path(self) -> str | None:
        """The file that holds the body, when it was offloaded to disk."""
        return None

    @property
    def body_digest(self) -> bytes:
        """SHA-256 of the body, 32 bytes (Kore 4.2)."""
        return sha256(self.content).digest()

    def request_header(self, name: str) -> str | None:
        """The first value of a header, looked up without regard to case; None when it was not sent."""
        value = self.fields.get(name.lower().encode("latin-1", "replace"))
        return None if value is None else value.decode("latin-1")

    def headers(self) -> dict[str, str]:
        """All headers, names in lower case; of a repeated one the last (Kore 4.3)."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.fields}

    def body_read(self, length: int) -> tuple[int, bytes]:
        """Up to ``length`` bytes of the body as ``(count, data)``; ``(0, b"")`` at its end. ValueError when negative."""
        if length < 0:
            raise ValueError("body_read: a length can't be negative")
        data = self.content[self._read : self._read + length]
        self._read += len(data)
        return len(data), data

    # Parameters

    def argument(self, name: str) -> str | None:
        """A parameter that a populate call found and its validator accepted, else None."""
        return None if self._arguments is None else self._arguments.get(name)

    def cookie(self, name: str) -> str | None:
        """A cookie's value after ``populate_cookies``, looked up without regard to case (Kore), else None."""
        return None if self._cookies is None else self._cookies.get(name.lower())

    def populate_get(self) -> bool:
        """Take the declared parameters of this method from the query string."""
        self._populate(True, parse_query(self.line.query, self.connection.service.params_max))
        return True

    def populate_post(self) -> bool:
        """Take the declared parameters from an urlencoded body of POST, and (ours) of PUT and PATCH."""
        self._populate(False, parse_form(self.content, self.connection.service.params_max))
        return True

    def populate_cookies(self) -> bool:
        """Read the Cookie headers, for ``cookie``."""
        pairs = parse_cookies(self.fields.all(b"cookie"), self.connection.service.cookies_max)
        self._cookies = {}
        for name, value in pairs:
            self._cookies.setdefault(name.lower(), value)
        return True

    def _populate(self, query: bool, pairs: list[tuple[str, str]]) -> None:
        route = self.action.route
        accepted = parameters.accept(route.params, self, query, pairs) if route is not None else {}
        self._arguments = {**accepted, **(self._arguments or {})}

    # The answer

    def response_header(self, name: str, value: str) -> bool:
        """Add a header to the answer; of one name the last call counts, but Set-Cookie adds up.

        ValueError for names and values that would break the message, and for the headers that frame it.
        RuntimeError when the answer is already sent.
        """
        line = header_line(name, value)
        if self.status:
            raise RuntimeError("response_header: the response was already sent")
        extra = self._extra
        if extra is None:
            self._extra = [line]
            return True
        start = line[: line.index(b":") + 1]
        if start != b"set-cookie:":
            extra[:] = [other for other in extra if not other.startswith(start)]
        extra.append(line)
        return True

    def response(self, status: int, body: Any = None) -> bool:
        """Answer with ``status`` (100 to 999) and ``body``: bytes, str (UTF-8), a buffer, or None for an empty one.

        The first response wins: RuntimeError for a second. ValueError for a status out of range, TypeError for a body
        of another type. Kore 3.2 takes bytes only.
        """
        if self.status:
            raise RuntimeError(f"this request was already answered with {self.status}")
        if body.__class__ is not bytes:
            body = self._encode(status, body)
        connection = self.connection
        line = self.line
        heads = connection.service.heads
        prefix = heads.keep[line.minor][status] if self.keep_alive else heads.close[line.minor][status]
        extra = self._extra
        if extra is not None:
            prefix += b"".join(extra)
        if line.method == HEAD or status in BODILESS or status < 200:
            data = self._bodiless(status, prefix, body)
        elif len(body) <= JOIN_MAX:
            data = b"%bcontent-length: %d\r\n\r\n%b" % (prefix, len(body), body)
        else:
            self.status = status
            return connection.write(b"%bcontent-length: %d\r\n\r\n" % (prefix, len(body)), body)
        self.status = status
        if connection.out is not None:
            return connection.gather(data)
        try:
            sent = connection.send(data)
        except OSError as failure:
            return connection.write_failed(failure, data)
        return sent == len(data) or connection.write_rest(memoryview(data)[sent:])

    def _bodiless(self, status: int, prefix: bytes, body: bytes) -> bytes:
        if status in BODILESS or status < 200:
            return prefix + b"\r\n"
        return b"%bcontent-length: %d\r\n\r\n" % (prefix, len(body))

    def _encode(self, status: int, body: Any) -> bytes:
        if body is None:
            return error_page(status) if status >= 400 and self.connection.service.pretty else b""
        if isinstance(body, str):
            return body.encode()
        if isinstance(body, (bytes, bytearray, memoryview)):
            return bytes(body)
        raise TypeError(f"a response body is bytes, str or None, not {body.__class__.__name__}")

    def websocket_handshake(
        self, onconnect: Any, onmessage: Any, ondisconnect: Any, subprotocols: Sequence[str] = ()
    ) -> bool:
        """Make the connection a websocket; the callbacks by name (Kore 3) or themselves (Kore 4), plain or async.

        False when the request asks for none, or not rightly: then it is answered (405, 426, 403, 400), and onconnect is
        not called as in Kore. ``subprotocols`` (ours): the first that the client offers is agreed on. LookupError for
        an unknown name.
        """
        return handshake(self, callbacks(onconnect, onmessage, ondisconnect), subprotocols) is not None

    def switch(self, fields: bytes) -> None:
        """Send the 101 with ``fields``; the connection is no longer HTTP's when the handler returns."""
        self.status = 101
        self.keep_alive = False
        connection = self.connection
        extra = b"".join(self._extra or ())
        connection.write(b"%b%b%b\r\n" % (connection.service.heads.plain[101], fields, extra), b"")

    def fail(self, status: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Answer on the server's behalf: what the handler prepared is dropped."""
        self._extra = [header_line(name, value) for name, value in headers] or None
        self.response(status)
