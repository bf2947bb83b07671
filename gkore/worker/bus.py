"""This worker's end of the bus: what it tells the master, and what reaches it from there.

There is one end a process, made at boot. Writing waits when the master is slow; an end of the stream means that the master
is gone, and then so is the worker.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from gevent import get_hub

from gkore import log
from gkore.errors import ProtocolError
from gkore.protocol.bus import MASTER, Envelope, Opener, seal
from gkore.worker import bridge, failures

READ, WRITE = 1, 2
RECV = 65536

_end: BusEnd | None = None


class BusEnd:
    """One socket to the master. ``receivers`` maps a kind of envelope to who takes it; strangers are dropped."""

    def __init__(self, number: int, sock: socket.socket, lost: Callable[[], object]) -> None:
        sock.setblocking(False)
        self.number = number
        self.receivers: dict[int, Callable[[Envelope], object]] = {}
        self._sock = sock
        self._lost = lost
        self._opener = Opener()
        self._waiting: list[bytes] = []
        self._writing = False
        self._reader: Any = get_hub().loop.io(sock.fileno(), READ)
        self._writer: Any = get_hub().loop.io(sock.fileno(), WRITE)
        self._reader.start(self._readable)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(RECV)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._reader.stop()
            self._lost()
            return
        try:
            for envelope in self._opener.feed(data):
                self._deliver(envelope)
        except ProtocolError as failure:
            log.error(f"the bus is out of step: {failure}")
            self._lost()

    def _deliver(self, envelope: Envelope) -> None:
        receiver = self.receivers.get(envelope.kind)
        if receiver is None:
            return
        try:
            receiver(envelope)
        except Exception as failure:
            failures.report(f"the receiver of bus message {envelope.kind}", failure)

    def send(self, kind: int, destination: int = MASTER, payload: bytes = b"") -> None:
        """Put one envelope on the bus; waits, in order, while the master does not read. OSError when it is gone."""
        self._waiting.append(seal(kind, self.number, destination, payload))
        if self._writing:
            return
        self._writing = True
        try:
            while self._waiting:
                self._write(memoryview(self._waiting.pop(0)))
        finally:
            self._writing = False

    def _write(self, view: memoryview) -> None:
        while view:
            try:
                view = view[self._sock.send(view) :]
            except (BlockingIOError, InterruptedError):
                bridge.wait(self, self._writer.start, self._writer.stop)


def join(end: BusEnd | None) -> None:
    """Make ``end`` this process's."""
    global _end
    _end = end


def end() -> BusEnd | None:
    """This process's end of the bus; None in the parent and outside a server."""
    return _end
