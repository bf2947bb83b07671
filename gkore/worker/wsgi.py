"""Hosting WSGI applications (PEP 3333) as handlers of routes: ``wsgi MODULE:APPLICATION``, ``kore.wsgi(application)``.

- The application runs on the request's task: whatever it waits for, the worker serves others meanwhile.
- ``wsgi.input`` is a small body in memory, or a large one as it comes (see ``inflow``); ``http_body_max`` bounds both.
  What is returned goes out piece by piece, chunked when its length is unknown, compressed where ``http_compress`` says.
- A websocket handshake is answered before the application is called, which finds ``environ["wsgi.websocket"]`` with
  the interface of gevent-websocket, as under gevent-websocket's worker for gunicorn.
- Names of header fields with an underscore do not reach the application: X_Real_IP would pass for X-Real-IP. Neither
  does Proxy, which CGI's rules turn into a variable that HTTP clients believe (httpoxy).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from gkore import log
from gkore.conf.site import Function
from gkore.worker.wsgi_answer import Answer, FileWrapper

if TYPE_CHECKING:
    from gkore.worker.request import Request

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

BUFFER = 65536


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

    handler.streams = True  # type: ignore[attr-defined]  # it takes requests whose bodies are still coming
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
    if request.inflow is None:
        size = size_of(request)
        if size or "CONTENT_LENGTH" in environ:
            environ["CONTENT_LENGTH"] = str(size)
    return environ


def size_of(request: Request) -> int:
    """Bytes of a body that is whole."""
    if request.inlet is not None:
        return sum(map(len, request.inlet))
    return len(request.content) if request.spool is None else request.spool.size


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
    if request.inflow is not None:
        return io.BufferedReader(request.inflow, BUFFER)
    if request.spool is None:
        return io.BytesIO(b"".join(request.inlet) if request.inlet is not None else request.content)
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
