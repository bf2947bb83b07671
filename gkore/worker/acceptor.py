"""Listening sockets to connections: accept in bursts, stop at the maximum, survive a shortage of descriptors."""

from __future__ import annotations

import _socket
import errno
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gevent import get_hub

from gkore import log
from gkore.worker import failures
from gkore.worker.ending import READ
from gkore.worker.room import make_room
from gkore.worker.tls import kind_of

if TYPE_CHECKING:
    from gkore.conf.site import Function
    from gkore.worker.service import Service

SHORTAGE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
SHORTAGE_PAUSE = 0.1
"""Seconds without accepting after the kernel had no descriptor or memory: without it the hub would spin."""


class Acceptor:
    """One listening socket of this worker's slot."""

    __slots__ = (
        "_accept",
        "_burst",
        "_callback",
        "_family",
        "_kind",
        "_listener",
        "_pause",
        "_service",
        "_watcher",
        "limit",
        "maximum",
        "recount",
    )

    def __init__(
        self, service: Service, listener: socket.socket, maximum: int, burst: int, callback: Function | None = None
    ) -> None:
        listener.setblocking(False)
        self._service = service
        self._listener = listener
        self._accept = listener._accept  # type: ignore[attr-defined]  # a descriptor, without a socket object around it
        self._family = listener.family
        self.limit = self.maximum = maximum
        self._burst = burst
        self.recount: Callable[[], object] | None = None
        """Called when ``maximum`` is reached, which it may raise up to ``limit``."""
        self._callback = callback
        self._kind = kind_of(service)
        loop = get_hub().loop
        self._watcher: Any = loop.io(listener.fileno(), READ)
        self._pause: Any = loop.timer(SHORTAGE_PAUSE)

    @property
    def inode(self) -> int:
        """What the kernel calls the socket, in every process that has it."""
        return os.fstat(self._listener.fileno()).st_ino

    def start(self) -> None:
        """Accept from now on; called again when a connection has made room."""
        if not self._watcher.active and not self._pause.active:
            self._watcher.start(self._readable)

    def stop(self) -> None:
        """Accept nothing more; what waits in the kernel's queue stays there for another worker or the next one."""
        self._watcher.stop()
        self._pause.stop()

    def close(self) -> None:
        """Accept nothing more, and let go of the socket."""
        self.stop()
        self._listener.close()

    def finish(self) -> bool:
        """At the end of an address: accept what waits already, then close; False while this worker has no room for it.

        The master has closed its copies: what is still in the queue when the last worker closes its own is reset.
        """
        connections = self._service.connections
        while len(connections) < self.limit:
            try:
                descriptor, peer = self._accept()
            except ConnectionAbortedError:
                continue
            except OSError:  # nobody waits any more, or there is no descriptor to be had
                self._listener.close()
                return True
            self._take(descriptor, peer)
        return False

    def _readable(self) -> None:
        connections = self._service.connections
        for turn in range(self._burst):
            if len(connections) >= self.maximum and self._is_full(len(connections), turn == 0):
                return
            try:
                descriptor, peer = self._accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as failure:
                self._short(failure)
                return
            self._take(descriptor, peer)

    def _is_full(self, connections: int, waited_for: bool) -> bool:
        """Whether no more can be accepted in this turn; when somebody is ``waited_for``, others may have to go."""
        if self.recount is not None:
            self.recount()
        if not self._watcher.active or connections < self.maximum:
            return not self._watcher.active
        if not waited_for:
            return True  # whether somebody else waits the next turn will tell
        if connections < self.limit or not make_room(self._service.connections, self._service.clock.now, self._burst):
            self._watcher.stop()
            return True
        return False

    def _take(self, descriptor: int, peer: Any) -> None:
        # The raw socket type, told what it is: the socket module's asks the kernel three questions first.
        sock = _socket.socket(self._family, socket.SOCK_STREAM, 0, descriptor)
        sock.setblocking(False)
        connection = self._kind(self._service, sock, peer)
        if self._callback is not None:
            try:
                self._callback(connection)
            except Exception as failure:
                failures.report("the connection callback of bind", failure)
                connection.close()

    def _short(self, failure: OSError) -> None:
        self._watcher.stop()
        log.error(f"accept: {failure.strerror}; raise worker_rlimit_nofiles or lower worker_max_connections")
        if failure.errno not in SHORTAGE:
            failures.report("accept", failure)
        self._pause.start(self._watcher.start, self._readable)
