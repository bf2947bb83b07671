"""A worker inside of another process: for tests, which call handlers without a port, a fork or a signal.

Everything is the real worker's: parser, routes, plans, tasks, websockets. Only who talks to it differs: the other half
of a socket pair, in the same process. What a handler raises is kept for the test to see.
"""

from __future__ import annotations

import _socket
import io
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gevent import get_hub
from gevent.socket import wait_read, wait_write

from gkore.protocol.slot import Slot
from gkore.worker import broadcast, bus, failures
from gkore.worker.life import Worker
from gkore.worker.openconnection import OpenConnection

if TYPE_CHECKING:
    from gkore.conf.application import Application

PEER = ("127.0.0.1", 54321)
"""What handlers see as the client's address."""


class Line(io.RawIOBase):
    """The client's end of a connection; reads and writes let the worker run. TimeoutError after ``seconds``."""

    def __init__(self, sock: Any, seconds: float) -> None:
        self.sock = sock
        self.seconds = seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            try:
                return int(self.sock.recv_into(buffer))
            except BlockingIOError:
                wait_read(self.sock.fileno(), self.seconds, TimeoutError(f"no answer within {self.seconds} s"))
            except ConnectionError:
                return 0

    def makefile(self, *_: Any) -> io.BufferedReader:
        """As a socket's, for http.client."""
        return io.BufferedReader(self)

    def sendall(self, data: bytes) -> None:
        """Send all of ``data``; what is left when the worker closes the connection is dropped."""
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                wait_write(self.sock.fileno(), self.seconds, TimeoutError(f"nothing read within {self.seconds} s"))
            except OSError:
                return

    def close(self) -> None:
        if not self.closed:
            self.sock.close()
        super().close()


class Indoors(Worker):
    """A worker that hears no signals and accepts nobody: ``call`` makes its clients."""

    def __init__(self, application: Application) -> None:
        ours, self._master = socket.socketpair()
        self.failures: list[BaseException] = []
        super().__init__(application, Slot(1, [], ours))
        self._ours = ours
        self._print_exception = get_hub().print_exception

    def _watch(self, number: int) -> None:
        """Signals are the test runner's."""

    def _listen(self) -> None:
        super()._listen()
        for server in self.application.site.servers.values():
            self._service(server)

    def boot(self) -> None:
        self._reader: Any = get_hub().loop.io(self._master.fileno(), 1)
        self._reader.start(self._master.recv, 65536)  # what a master would read
        failures.witness = self._witness
        super().boot()

    def _step_in(self) -> None:
        """Be this process's worker: another one may have been meanwhile."""
        failures.witness = self._witness
        bus.join(self.bus)
        broadcast.gather(self.audience)

    def _witness(self, where: str, failure: BaseException) -> None:
        self.failures.append(failure)

    @contextmanager
    def call(self, server: str, seconds: float) -> Iterator[Line]:
        """A connection to one of the site's servers, "" for the first."""
        self._step_in()
        service = next(service for service in self.services if server in ("", service.server.name))
        near, far = _raw_pair()
        OpenConnection(service, far, PEER)
        line = Line(near, seconds)
        try:
            yield line
        finally:
            line.close()

    def leave(self) -> None:
        """Close what is open and tear down, as a worker that is told to stop, but without waiting for anybody."""
        for connection in list(self.fleet.connections):
            connection.close()
        self._teardown()
        for watcher in (self._reader, *self._watchers):
            watcher.stop()
            watcher.close()
        self.bus.leave()
        self._ours.close()
        self._master.close()
        failures.witness = None
        failures.forget_tracer()
        get_hub().print_exception = self._print_exception  # type: ignore[method-assign]


def _raw_pair() -> tuple[Any, Any]:
    """Two ends of a stream, without a layer above the kernel's, as the acceptor makes them."""
    near, far = _socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    near.setblocking(False)
    far.setblocking(False)
    return near, far


def forget_modules(application: Application) -> None:
    """Let the application's modules be imported anew by the next one who asks for them."""
    for module in application.modules:
        sys.modules.pop(module.__name__, None)
