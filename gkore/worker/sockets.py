"""``kore.socket_wrap``: sockets whose operations can be awaited.

Any plain Python socket: TCP, UDP and UNIX, of either kind, IPv6 too (Kore: IPv4 and UNIX), patched by gevent or not.
The operations work on the socket underneath, which is made non-blocking. They begin when they are awaited (Kore: when
they are made). End of the stream is None, late is TimeoutError, all else is RuntimeError with the system's text.
"""

from __future__ import annotations

import _socket
import os
import socket
import ssl
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, NoReturn

from gevent import get_hub

from gkore.worker.readiness import CLOSED, READ, WRITE, Readiness
from gkore.worker.waits import Awaitable, Suspend, limit

FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
PATH_MAX = 108
"""sun_path of sockaddr_un, with its NUL."""
ANCILLARY_MAX = 1024
BACKLOG_PAUSE = 5
"""Milliseconds before a UNIX socket tries a full backlog again: the kernel tells nobody when there is room."""


class Operation(Awaitable):
    """One operation of a socket, done when it is awaited."""

    __slots__ = ("_act", "_arguments", "_name")

    def __init__(self, name: str, act: Callable[..., Any], *arguments: Any) -> None:
        self._name = name
        self._act = act
        self._arguments = arguments

    def wait(self) -> Any:
        return self._act(self, *self._arguments)

    def __str__(self) -> str:
        return self._name


class Socket:
    """A socket that coroutines wait on (``kore.socket``); one may receive while another one sends."""

    __slots__ = ("_input", "_original", "_output", "_raw")

    def __init__(self, raw: Any, original: Any = None) -> None:
        if raw.family not in FAMILIES:
            raise RuntimeError("unsupported family")
        self._raw = raw
        self._original = original
        self._input = Readiness(raw.fileno(), READ)
        self._output = Readiness(raw.fileno(), WRITE)

    # Receiving

    def recv(self, length: int, timeout: float = -1) -> Operation:
        """Await up to ``length`` bytes; None at the end of the stream. TimeoutError after ``timeout`` milliseconds."""
        return Operation(self._name("recv"), self._recv, checked_length(length), limit(timeout))

    def recvfrom(self, length: int, timeout: float = -1) -> Operation:
        """Await ``(ip, port, data)``, or ``(path, data)`` from a UNIX socket; data is None at the end of a stream."""
        return Operation(self._name("recvfrom"), self._recvfrom, checked_length(length), limit(timeout))

    def recvmsg(self, length: int, timeout: float = -1) -> Operation:
        """As ``recvfrom``, with a list of control messages ``(length, level, type, data)`` at the end (Kore 4.1)."""
        return Operation(self._name("recvmsg"), self._recvmsg, checked_length(length), limit(timeout))

    def accept(self) -> Operation:
        """Await the next connection as a ``kore.socket`` that owns its descriptor."""
        return Operation(self._name("accept"), self._accept)

    def _recv(self, what: Operation, length: int, seconds: float | None) -> bytes | None:
        data = self._receive(what, partial(self._raw.recv, length), seconds)
        return None if data is None else self._or_end(data, length)

    def _recvfrom(self, what: Operation, length: int, seconds: float | None) -> tuple[Any, ...]:
        data, peer = self._receive(what, partial(self._raw.recvfrom, length), seconds) or (None, None)
        return (*self._address(peer), self._or_end(data, length))

    def _recvmsg(self, what: Operation, length: int, seconds: float | None) -> tuple[Any, ...]:
        found = self._receive(what, partial(self._raw.recvmsg, length, ANCILLARY_MAX), seconds)
        data, control, _, peer = found or (None, [], 0, None)
        messages = [(len(message), level, kind, message) for level, kind, message in control]
        return (*self._address(peer), self._or_end(data, length), messages)

    def _accept(self, what: Operation) -> Socket:
        accepted = self._receive(what, self._raw._accept, None)
        if accepted is None:
            raise RuntimeError(CLOSED)
        sock = _socket.socket(self._raw.family, self._raw.type, self._raw.proto, accepted[0])
        sock.setblocking(False)
        return Socket(sock)

    def _receive(self, what: Operation, attempt: Callable[[], Any], seconds: float | None) -> Any:
        """What ``attempt`` returns; None when the socket is closed under a waiting task."""
        self._refuse_closed()
        try:
            return self._input.until(what, attempt, seconds)
        except EOFError:
            return None
        except OSError as failure:
            raise_as_kore(failure)

    def _or_end(self, data: bytes | None, length: int) -> bytes | None:
        stream = self._raw.type == socket.SOCK_STREAM
        return None if stream and not data and length else data

    def _address(self, peer: Any) -> tuple[Any, ...]:
        if self._raw.family == socket.AF_UNIX:
            if isinstance(peer, bytes):
                peer = os.fsdecode(b"@" + peer[1:])
            return (peer or None,)
        if not peer:
            try:
                peer = self._raw.getpeername()
            except OSError:
                return (None, None)
        return (peer[0], peer[1])

    # Sending

    def send(self, data: Any, timeout: float = -1) -> Operation:
        """Send all of ``data``. RuntimeError when the peer is gone, TimeoutError after ``timeout`` milliseconds."""
        return Operation(self._name("send"), self._send, as_bytes(data), limit(timeout))

    def sendto(self, *where_and_data: Any) -> Operation:
        """``sendto(ip, port, data)`` or, on a UNIX socket, ``sendto(path, data)``."""
        *where, data = where_and_data
        return Operation(self._name("sendto"), self._sendto, self._checked(where, "sendto"), as_bytes(data))

    def connect(self, host: str, port: int | str | None = None) -> Operation:
        """Connect to ``host``, a name or an address, and ``port``; or to a UNIX socket's path (``@`` is abstract)."""
        where = [host] if port is None else [host, port]
        return Operation(self._name("connect"), self._connect, self._checked(where, "connect"))

    def _send(self, what: Operation, data: bytes, seconds: float | None) -> None:
        rest = memoryview(data).cast("B")
        end = None if seconds is None else monotonic() + seconds
        while True:
            left = None if end is None else max(0.0, end - monotonic())
            sent = self._transmit(what, partial(self._raw.send, rest), left)
            rest = rest[sent:]
            if not rest:
                return

    def _sendto(self, what: Operation, where: Any, data: bytes) -> None:
        address = self._resolve(where)
        self._transmit(what, partial(self._raw.sendto, data, address), None)

    def _connect(self, what: Operation, where: Any) -> None:
        address = self._resolve(where)
        self._refuse_closed()
        try:
            while self._begin_connect(address):
                Suspend(BACKLOG_PAUSE).wait()
        except BlockingIOError:
            self._finish_connect(what)
        except OSError as failure:
            raise_as_kore(failure)

    def _begin_connect(self, address: Any) -> bool:
        """Whether to try again later: a UNIX socket's backlog is full. BlockingIOError while it is on its way."""
        try:
            self._raw.connect(address)
        except BlockingIOError:
            if self._raw.family == socket.AF_UNIX:
                return True
            raise
        return False

    def _finish_connect(self, what: Operation) -> None:
        if self._output.busy:
            raise RuntimeError("only one send operation can be done per socket")
        self._output.busy = True
        try:
            self._output.wait(what)
        finally:
            self._output.busy = False
        self._refuse_closed()
        error = self._raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise RuntimeError(os.strerror(error))

    def _transmit(self, what: Operation, attempt: Callable[[], Any], seconds: float | None) -> Any:
        self._refuse_closed()
        try:
            return self._output.until(what, attempt, seconds)
        except EOFError:
            raise RuntimeError("socket EOF") from None
        except BrokenPipeError:
            raise RuntimeError("socket EOF") from None
        except OSError as failure:
            raise_as_kore(failure)

    def _checked(self, where: list[Any], verb: str) -> Any:
        """A path, or a host and a port. RuntimeError in Kore's words for what can't be one."""
        if self._raw.family == socket.AF_UNIX:
            (path,) = where
            name = os.fsencode(path)
            if len(name) >= PATH_MAX:
                raise RuntimeError("path too long" if verb == "connect" else "unix socket path too long")
            return b"\0" + name[1:] if name.startswith(b"@") else name
        host, port = where
        try:
            number = int(port)
        except ValueError:
            number = 0
        if not 0 < number < 65536:
            raise RuntimeError("invalid port number" if verb == "connect" else "invalid port")
        return host, number

    def _resolve(self, where: Any) -> Any:
        if self._raw.family == socket.AF_UNIX:
            return where
        host, port = where
        try:
            socket.inet_pton(self._raw.family, host)
        except OSError:
            pass
        else:
            return host, port
        try:
            found = get_hub().resolver.getaddrinfo(host, port, self._raw.family, self._raw.type)
        except OSError as failure:
            raise RuntimeError(failure.strerror or str(failure)) from None
        return found[0][4]

    # The end

    def close(self) -> bool:
        """Wake whoever waits (a recv gets None) and close; a wrapped Python socket stays open. Twice is harmless."""
        if not self._input.closed:
            self._input.close()
            self._output.close()
            if self._original is None:
                self._raw.close()
        return True

    def __del__(self) -> None:
        if hasattr(self, "_output"):
            self.close()

    def _refuse_closed(self) -> None:
        if self._input.closed or self._raw.fileno() < 0:
            raise RuntimeError(CLOSED)

    def _name(self, verb: str) -> str:
        return f"{verb} on descriptor {self._raw.fileno()}"


def wrap(original: socket.socket) -> Socket:
    """A ``kore.socket`` over any plain Python socket, which stays open when that is closed.

    RuntimeError "unsupported family", TypeError for a TLS socket: its bytes are not those on the wire.
    """
    if isinstance(original, ssl.SSLSocket):
        raise TypeError("kore.socket_wrap takes plain sockets, not TLS ones")
    raw = getattr(original, "_sock", original)  # gevent's keeps the real one, non-blocking, in _sock
    if not isinstance(raw, _socket.socket):
        raise TypeError(f"kore.socket_wrap takes a socket, not {original.__class__.__name__}")
    wrapped = Socket(raw, original)
    raw.setblocking(False)
    return wrapped


def as_bytes(data: Any) -> bytes:
    """What is sent: bytes, any buffer, or str as UTF-8 (the reference's examples send str; Kore raises a TypeError)."""
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"a bytes-like object is required, not '{data.__class__.__name__}'")


def checked_length(length: int) -> int:
    if length < 0:
        raise ValueError("a length can't be negative")
    return length


def raise_as_kore(failure: OSError) -> NoReturn:
    """TimeoutError of ours as it is, the system's errors as RuntimeError with their text."""
    if isinstance(failure, TimeoutError) and failure.errno is None:
        raise failure
    raise RuntimeError(failure.strerror or str(failure)) from failure
