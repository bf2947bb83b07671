"""What a WSGI application answers: ``start_response``, ``write``, an iterable, ``wsgi.file_wrapper``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from gkore import log
from gkore.errors import ClientGone
from gkore.protocol.response import BODILESS, header_line
from gkore.worker import compression, streaming
from gkore.worker.filtered import UNCOMPRESSED

if TYPE_CHECKING:
    from gkore.worker.request import Request

HEAD = 32
OURS = frozenset(("connection", "keep-alive", "transfer-encoding", "date", "server"))
"""Response fields that the server itself sends: the application's are left out."""


class FileWrapper:
    """``wsgi.file_wrapper``: a file of known size is sent by sendfile, any other in pieces."""

    def __init__(self, file: Any, size: int = 65536) -> None:
        self.file = file
        self._size = size
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.file.read(self._size):
            yield piece


class Answer:
    """What the application says to one request."""

    __slots__ = ("_chunked", "_compress", "_encoder", "_left", "_lines", "_request", "_started", "_status")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._status = 0
        self._lines: list[bytes] = []
        self._left: int | None = None
        """Bytes that its Content-Length promises and that the application has not given; None without one."""
        self._chunked = False
        self._started = False
        plan = request.action.plan
        self._compress = plan is not None and plan.compress
        self._encoder: compression.Encoder | None = None

    def run(self, application: Callable[..., Iterable[bytes]], environ: dict[str, Any]) -> None:
        """Call the application and send what it returns; what it raises before the head is sent is raised."""
        result: Any = None
        try:
            result = application(environ, self.start_response)
            self._send(result)
            self._end()
        except ClientGone:
            pass
        except BaseException as failure:
            if self._is_client(failure):
                return
            if not self._started or isinstance(failure, GeneratorExit):
                raise
            streaming.cut(self._request, failure)
        finally:
            if hasattr(result, "close"):
                result.close()

    def _is_client(self, failure: BaseException) -> bool:
        """Whether the client is to blame, whose body failed. ProtocolError when it can be told."""
        inflow, connection = self._request.inflow, self._request.connection
        if inflow is None or failure is not inflow.failure:
            return False
        if inflow.refusal is not None and not self._started:
            raise inflow.refusal
        if inflow.refusal is None and not connection.lost:
            return False
        connection.lost = True
        return True

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """Take status and fields; they are sent with the first piece of the body. AssertionError for a second call."""
        if exc_info is not None:
            try:
                if self._started:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # PEP 3333: no circle through the traceback
        elif self._status:
            raise AssertionError("start_response was called already")
        self._status = check_status(status)
        self._lines, self._left = [], None
        for name, value in headers:
            lower = name.lower()
            if lower == "content-length":
                self._left = check_length(value)
            elif lower not in OURS:
                self._lines.append(header_line(name, value))
            elif lower == "connection" and value.lower() == "close":
                self._request.keep_alive = False
        return self.write

    def write(self, data: bytes) -> None:
        """Send a piece of the body at once (PEP 3333: for old applications)."""
        if not isinstance(data, bytes):
            raise TypeError(f"a piece of a WSGI body is bytes, not {data.__class__.__name__}")
        if not self._started:
            self._start()
        if data:
            self._put(data)

    def _send(self, result: Iterable[bytes]) -> None:
        if self._status and not self._started:
            if isinstance(result, FileWrapper) and self._send_file(result):
                return
            if isinstance(result, (list, tuple)) and len(result) == 1 and isinstance(result[0], bytes):
                result = (self._only(result[0]),)
        for piece in result:
            if piece or not isinstance(piece, bytes):
                self.write(piece)

    def _send_file(self, wrapper: FileWrapper) -> bool:
        """Send a file of known size whole; False when it must go in pieces."""
        request = self._request
        stream = streaming.Stream(self._status, wrapper.file)
        if stream.length is None or self._left not in (None, stream.length):
            return False
        self._left = stream.length
        self._agree()
        if self._encoder is not None:
            return False
        self._start()
        if not self._bodiless:
            streaming.send_whole(request, stream, stream.length)
        self._left = 0
        return True

    def _only(self, body: bytes) -> bytes:
        """A body of one piece, whose length a server may know (PEP 3333)."""
        if self._left is None:
            self._left = len(body)
        if self._compress and self._left == len(body):
            coding = self._coding()
            if coding:
                body = compression.compress(body, coding)
                self._left = len(body)
        return body

    def _coding(self) -> str:
        """The coding that the client and the answer agree on, "" for none; asked once."""
        wanted, self._compress = self._compress, False
        short = self._left is not None and self._left < compression.COMPRESS_MIN
        if not wanted or short or self._status in UNCOMPRESSED:
            return ""
        return compression.agree(self._request, self._lines)

    def _agree(self) -> None:
        coding = self._coding()
        if coding:
            self._encoder = compression.encoder(coding)

    def _start(self) -> None:
        """Send the head."""
        request = self._request
        if not self._status:
            raise AssertionError("the application did not call start_response before its body")
        line = request.line
        if self._compress:
            self._agree()
        if request.inflow is not None and not request.inflow.ends:
            request.keep_alive = False
        framing = b""
        if self._status not in BODILESS and self._status >= 200:
            if self._left is not None and self._encoder is None:
                framing = b"content-length: %d\r\n" % self._left
            elif line.minor:
                framing, self._chunked = b"transfer-encoding: chunked\r\n", True
            else:
                request.keep_alive = False
        head = request.start(self._status, b"".join(self._lines) + framing)
        self._started = True
        request.status = self._status
        if self._bodiless:
            self._chunked = False
        if not request.connection.put(head, not self._bodiless and self._left != 0):
            raise ClientGone

    @property
    def _bodiless(self) -> bool:
        return self._request.line.method == HEAD or self._status in BODILESS or self._status < 200

    def _put(self, data: bytes) -> None:
        if self._bodiless:
            return
        if self._left is not None:
            if len(data) > self._left:
                path = self._request.line.path
                log.error(f"{path}: the application sends more than its Content-Length; the rest is cut off")
                data = data[: self._left]
            self._left -= len(data)
        self._pass_on(data if self._encoder is None else self._encoder(data))

    def _pass_on(self, data: bytes) -> None:
        request = self._request
        request.sent += len(data)
        if self._chunked and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if data and not request.connection.put(data):
            raise ClientGone

    def _end(self) -> None:
        """The iterable is at its end."""
        if not self._started:
            if self._left is None and not self._bodiless:
                self._left = 0
            self._start()
        if self._bodiless:
            return
        if self._left:
            raise EOFError(f"the application sent {self._left} bytes less than its Content-Length")
        if self._encoder is not None:
            self._pass_on(self._encoder(None))
        if self._chunked and not self._request.connection.put(b"0\r\n\r\n"):
            raise ClientGone


def check_status(status: str) -> int:
    """``200 OK`` as a number. ValueError for anything else."""
    if not isinstance(status, str) or not (len(status) >= 3 and status[:3].isdecimal() and status[3:4] in ("", " ")):
        raise ValueError(f"a WSGI status is a string such as '200 OK', not {status!r}")
    return int(status[:3])


def check_length(value: str) -> int:
    if not (value.isascii() and value.isdecimal()):
        raise ValueError(f"Content-Length {value!r} is no number of bytes")
    return int(value)
