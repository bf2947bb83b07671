"""The answering half of a request: ``response``, and what it is put together from.

What most requests leave alone lives on the class. ``filtered`` puts compression and the access log around ``response``,
``streaming`` sends what it leaves in ``stream``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gkore.compiled import mypyc_attr
from gkore.protocol.head import Head
from gkore.protocol.response import BODILESS, error_page, header_line, known_lines
from gkore.worker.output import CORKED_MAX
from gkore.worker.streaming import Stream

if TYPE_CHECKING:
    from gkore.worker.connection import Connection

HEAD: Final = 32
JOIN_MAX: Final = 16384
"""Up to this size head and body are copied into one piece: a copy costs less than a second system call."""

LENGTHS_MAX: Final = 2048
LENGTHS: Final = [b"content-length: %d\r\n\r\n" % size for size in range(LENGTHS_MAX)]
"""The end of a head, for bodies of usual size: a join of known pieces is twice as fast as a format (0.1 us)."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Answer(Head):
    """One HTTP request, as far as it is answered."""

    connection: Connection
    """The client's connection."""
    status: int = 0
    """What was answered; 0 until then."""
    sent: int = 0
    """Bytes of the answer's body, for the access log; only counted where there is one."""
    stream: Stream | None = None
    """What is answered when the handler is done, piece by piece."""
    _extra: list[bytes] | None = None

    @property
    def answered(self) -> bool:
        """``response`` was called."""
        return self.status != 0 or self.stream is not None

    def response_header(self, name: str, value: str) -> bool:
        """Add a header to the answer; of one name the last call counts, but Set-Cookie adds up.

        ValueError for names and values that would break the message, and for the headers that frame it.
        RuntimeError when the answer is already sent.
        """
        line = known_lines.get((name, value)) or header_line(name, value)
        if self.status or self.stream is not None:
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
        """Answer with ``status`` (100 to 999) and ``body``: bytes, str (UTF-8), a buffer, None for an empty one, or an
        iterable, generator or file, which is sent piece by piece when the handler is done.

        The first response wins: RuntimeError for a second. ValueError for a status out of range, TypeError for a body
        of another type. Kore 3.2 takes bytes only.
        """
        if self.status:
            raise RuntimeError(f"this request was already answered with {self.status}")
        if body.__class__ is not bytes:
            body = self._encode(status, body)
            if body is None:
                return True
        connection = self.connection
        line = self.line
        heads = connection.service.heads
        prefix = (heads.keep if self.keep_alive else heads.close)[line.minor][status]
        extra = self._extra
        size = len(body)
        if line.method == HEAD or (status != 200 and (status in BODILESS or status < 200)):
            data = self._bodiless(status, b"".join((prefix, *(extra or ()))), body)
        elif size < LENGTHS_MAX:
            end = LENGTHS[size]
            data = b"".join((prefix, end, body) if extra is None else (prefix, *extra, end, body))
        elif size <= JOIN_MAX:
            data = b"".join((prefix, *(extra or ()), b"content-length: %d\r\n\r\n" % size, body))
        else:
            self.status = status
            return connection.write(b"".join((prefix, *(extra or ()), b"content-length: %d\r\n\r\n" % size)), body)
        self.status = status
        out = connection.out
        if out is not None:
            out.append(data)
            return connection.flush() if len(out) >= CORKED_MAX else not connection.lost
        try:
            sent: int = connection.sock.send(data)
        except OSError as failure:
            return connection.write_failed(failure, data)
        return sent == len(data) or connection.write_rest(memoryview(data)[sent:])

    def _bodiless(self, status: int, prefix: bytes, body: bytes) -> bytes:
        if status in BODILESS or status < 200:
            return prefix + b"\r\n"
        return b"%bcontent-length: %d\r\n\r\n" % (prefix, len(body))

    def _encode(self, status: int, body: Any) -> bytes | None:
        """``body`` as bytes; None when it is kept in ``stream``."""
        if body is None:
            return error_page(status) if status >= 400 and self.connection.service.pretty else b""
        if isinstance(body, str):
            return body.encode()
        if isinstance(body, (bytes, bytearray, memoryview)):
            return bytes(body)
        self.connection.service.heads.close[self.line.minor][status]  # a status out of range is the handler's fault
        self.stream = Stream(status, body)
        self.response = _refuse_second  # type: ignore[method-assign]  # so that other bodies need no check for this one
        return None

    def start(self, status: int, framing: bytes) -> bytes:
        """The head of an answer whose body is sent piece by piece; ``framing`` is the field that says how."""
        heads = self.connection.service.heads
        prefixes = heads.keep if self.keep_alive else heads.close
        return b"%b%b%b\r\n" % (prefixes[self.line.minor][status], b"".join(self._extra or ()), framing)

    def switch(self, fields: bytes) -> None:
        """Send the 101 with ``fields``; the connection is no longer HTTP's when the handler returns."""
        self.status = 101
        self.keep_alive = False
        connection = self.connection
        extra = b"".join(self._extra or ())
        connection.write(b"%b%b%b\r\n" % (connection.service.heads.plain[101], fields, extra), b"")

    def fail(self, status: int, headers: tuple[tuple[str, str], ...] = (), body: str | None = None) -> None:
        """Answer on the server's behalf: what the handler prepared is dropped."""
        self._extra = [header_line(name, value) for name, value in headers] or None
        self.response(status, body)


def _refuse_second(status: int, body: Any = None) -> bool:
    raise RuntimeError("this request was already answered with a body that is sent piece by piece")
