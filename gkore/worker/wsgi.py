"""Hosting WSGI applications (PEP 3333) as handlers of routes: ``wsgi MODULE:APPLICATION``, ``kore.wsgi(application)``.

- The application runs on the request's task: whatever it waits for, the worker serves others meanwhile.
- The request's body is complete before the application is called, and bounded by ``http_body_max``; ``wsgi.input``
  reads it from memory or, for large ones, from its file. What is returned goes out piece by piece, chunked when its
  length is unknown.
- A websocket handshake is answered before the application is called, which finds ``environ["wsgi.websocket"]`` with
  the interface of gevent-websocket, as under gevent-websocket's worker for gunicorn.
- Names of header fields with an underscore do not reach the application: X_Real_IP would pass for X-Real-IP. Neither
  does Proxy, which CGI's rules turn into a variable that HTTP clients believe (httpoxy).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from gkore import log
from gkore.conf.site import Function
from gkore.errors import ClientGone
from gkore.protocol.response import BODILESS, header_line
from gkore.worker import streaming

if TYPE_CHECKING:
    from gkore.worker.request import Request

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

HEAD = 32
OURS = frozenset(("connection", "keep-alive", "transfer-encoding", "date", "server"))
"""Response fields that the server itself sends: the application's are left out."""


def host(application: Application, mount: str = "") -> Function:
    """A handler that lets ``application`` answer; ``mount`` becomes SCRIPT_NAME for paths below it. TypeError."""
    if not callable(application):
        raise TypeError(f"a WSGI application is callable, {application!r} is not")
    mount = mount.rstrip("/")

    def handler(request: Request, *groups: str) -> None:
        environ = describe(request, mount)
        if request.upgrade:
            from gkore.worker.hosted_websocket import serve  # only those who use it pay for gevent-websocket's import

            serve(request, application, environ)
        else:
            Answer(request).run(application, environ)

    handler.__name__ = handler.__qualname__ = getattr(application, "__name__", application.__class__.__name__)
    return handler


# The request


def describe(request: Request, mount: str = "") -> dict[str, Any]:
    """The environ of a request."""
    line, fields, connection = request.line, request.fields, request.connection
    path = unquote_to_bytes(line.path).decode("latin-1")
    name, port = server_of(request)
    below = bool(mount) and (path == mount or path.startswith(mount + "/"))
    environ: dict[str, Any] = {
        "REQUEST_METHOD": line.verb.decode("ascii"),
        "SCRIPT_NAME": mount if below else "",
        "PATH_INFO": path[len(mount) :] if below else path,
        "QUERY_STRING": line.query.decode("latin-1"),
        "RAW_URI": line.target.decode("latin-1"),
        "REQUEST_URI": line.target.decode("latin-1"),
        "SERVER_NAME": name,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": f"HTTP/1.{line.minor}",
        "SERVER_SOFTWARE": "gkore",
        "REMOTE_ADDR": request.client,
        "REMOTE_PORT": str(connection.peer[1]) if isinstance(connection.peer, tuple) else "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.protocol,
        "wsgi.input": body_of(request),
        "wsgi.input_terminated": True,
        "wsgi.errors": ERRORS,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "gkore.request": request,
    }
    for field, value in fields:
        if b"_" not in field and field != b"proxy":
            add(environ, field.decode("ascii").upper().replace("-", "_"), value.decode("latin-1"))
    size = len(request.content) if request.spool is None else request.spool.size
    if size or "CONTENT_LENGTH" in environ:
        environ["CONTENT_LENGTH"] = str(size)
    return environ


def add(environ: dict[str, Any], name: str, value: str) -> None:
    key = name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
    before = environ.get(key)
    if before is not None:
        value = f"{before}{';' if name == 'COOKIE' else ','}{value}"
    environ[key] = value


def server_of(request: Request) -> tuple[str, str]:
    """The server's name and port as the client called them; without a port the scheme's."""
    name, colon, port = request.host.rpartition(":")
    if not colon or port.endswith("]"):
        name, port = request.host, ""
    return name or "localhost", port or ("443" if request.protocol == "https" else "80")


def body_of(request: Request) -> io.BufferedIOBase:
    if request.spool is None:
        return io.BytesIO(request.content)
    return io.BufferedReader(Spooled(request))


class Spooled(io.RawIOBase):
    """A body that may be in a file, as one to read from."""

    def __init__(self, request: Request) -> None:
        assert request.spool is not None
        self._spool = request.spool
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._spool.read(self._at, len(buffer))
        self._at += len(data)
        buffer[: len(data)] = data
        return len(data)


class Errors(io.TextIOBase):
    """``wsgi.errors``: whole lines go to the log."""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if text.strip():
            log.error(text.rstrip())
        return len(text)


ERRORS = Errors()


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


# The answer


class Answer:
    """What the application says to one request."""

    __slots__ = ("_chunked", "_left", "_lines", "_request", "_started", "_status")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._status = 0
        self._lines: list[bytes] = []
        self._left: int | None = None
        """Bytes that its Content-Length promises and that were not sent; None without one."""
        self._chunked = False
        self._started = False

    def run(self, application: Application, environ: dict[str, Any]) -> None:
        """Call the application and send what it returns; what it raises before the head is sent is raised."""
        result: Any = None
        try:
            result = application(environ, self.start_response)
            self._send(result)
            self._end()
        except ClientGone:
            pass
        except BaseException as failure:
            if not self._started or isinstance(failure, GeneratorExit):
                raise
            streaming.cut(self._request, failure)
        finally:
            if hasattr(result, "close"):
                result.close()

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
        request = self._request
        if isinstance(result, FileWrapper) and self._status and not self._started and request.line.method != HEAD:
            stream = streaming.Stream(self._status, result.file)
            if stream.length is not None and self._left in (None, stream.length):
                self._left = stream.length
                self._start()
                streaming.send_whole(request, stream, stream.length)
                self._left = 0
                return
        if isinstance(result, (list, tuple)) and len(result) == 1 and self._left is None and not self._started:
            self._left = len(result[0])  # PEP 3333: a server may know the length of a body of one piece
        for piece in result:
            if piece or not isinstance(piece, bytes):
                self.write(piece)

    def _start(self) -> None:
        """Send the head."""
        request = self._request
        if not self._status:
            raise AssertionError("the application did not call start_response before its body")
        line = request.line
        framing = b""
        if self._status not in BODILESS and self._status >= 200:
            if self._left is not None:
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
        request = self._request
        if self._bodiless:
            return
        if self._left is not None:
            if len(data) > self._left:
                log.error(
                    f"{request.line.path}: the application sends more than its Content-Length; the rest is cut off"
                )
                data = data[: self._left]
            self._left -= len(data)
        request.sent += len(data)
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if data and not request.connection.put(data):
            raise ClientGone

    def _end(self) -> None:
        """The iterable is at its end."""
        if not self._started:
            if self._left is None and not self._bodiless:
                self._left = 0
            self._start()
        if self._chunked:
            if not self._request.connection.put(b"0\r\n\r\n"):
                raise ClientGone
        elif self._left and not self._bodiless:
            raise EOFError(f"the application sent {self._left} bytes less than its Content-Length")


def check_status(status: str) -> int:
    """``200 OK`` as a number. ValueError for anything else."""
    if not isinstance(status, str) or not (len(status) >= 3 and status[:3].isdecimal() and status[3:4] in ("", " ")):
        raise ValueError(f"a WSGI status is a string such as '200 OK', not {status!r}")
    return int(status[:3])


def check_length(value: str) -> int:
    if not (value.isascii() and value.isdecimal()):
        raise ValueError(f"Content-Length {value!r} is no number of bytes")
    return int(value)
