"""This worker's end of the bus: what it tells the master, and what reaches it from there.

There is one end a process, made at boot. Envelopes leave in the order in which they were sent. Who sends while more
than BACKLOG_MAX bytes wait for the master to read waits with them; a callback of the hub can't wait, so what it sends
is kept up to LOSE_MAX and lost beyond. At the end of the stream the master is gone, and then so is the worker.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from gevent import get_hub
from greenlet import getcurrent

from gkore import log
from gkore.errors import ProtocolError
from gkore.protocol.bus import MASTER, Envelope, Opener, seal
from gkore.worker import failures
from gkore.worker.waits import Waiter

READ, WRITE = 1, 2
RECV = 65536
RIGHTS = socket.CMSG_SPACE(4 * 253)
"""As many descriptors as the kernel takes with one message (SCM_MAX_FD)."""
BACKLOG_MAX = 1024 * 1024
LOSE_MAX = 32 * 1024 * 1024

_end: BusEnd | None = None


class BusEnd:
    """One socket to the master. ``receivers`` maps a kind of envelope to who takes it; strangers are dropped."""

    def __init__(self, number: int, sock: socket.socket, lost: Callable[[], object]) -> None:
        sock.setblocking(False)
        self.number = number
        self.receivers: dict[int, Callable[[Envelope], object]] = {}
        self.backlog = 0
        """Bytes that wait for the master to read."""
        self.lost = 0
        """Envelopes that were dropped."""
        self.rights: deque[list[int]] = deque()
        """Descriptors that came with envelopes of kind LOGS, and which those take from here."""
        self._sock = sock
        self._gone = lost
        self._opener = Opener()
        self._broken: OSError | None = None
        self._queue: deque[memoryview] = deque()
        self._waiters: list[Waiter] = []
        self._reader: Any = get_hub().loop.io(sock.fileno(), READ)
        self._writer: Any = get_hub().loop.io(sock.fileno(), WRITE)
        self._reader.start(self._readable)

    def _readable(self) -> None:
        try:
            data, extra, flags, _ = self._sock.recvmsg(RECV, RIGHTS, socket.MSG_CMSG_CLOEXEC)
            if extra or flags & socket.MSG_CTRUNC:
                self.rights.append([one for _, _, part in extra for one in memoryview(part).cast("i")])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._reader.stop()
            self._gone()
            return
        try:
            for envelope in self._opener.feed(data):
                self._deliver(envelope)
        except ProtocolError as failure:
            log.error(f"what the master sent is no message ({failure}): this worker stops and is replaced")
            self._gone()

    def _deliver(self, envelope: Envelope) -> None:
        receiver = self.receivers.get(envelope.kind)
        if receiver is None:
            return
        try:
            receiver(envelope)
        except Exception as failure:
            failures.report(f"the receiver of bus message {envelope.kind}", failure)

    def send(self, kind: int, destination: int = MASTER, payload: bytes = b"") -> None:
        """Put one envelope on the bus; waits while the master does not read. OSError when it is gone.

        ValueError for a payload over PAYLOAD_MAX.
        """
        data = seal(kind, self.number, destination, payload)
        on_hub = getcurrent() is get_hub()
        if on_hub and self.backlog > LOSE_MAX:
            self.lost += 1
            if self.lost == 1:
                log.error("the master does not read: messages between workers are lost (is the machine overloaded?)")
            return
        self._queue.append(memoryview(data))
        self.backlog += len(data)
        if not self._writer.active:
            self._flush()
        while self.backlog > BACKLOG_MAX and not on_hub:
            waiter = Waiter()
            self._waiters.append(waiter)
            waiter.wait(self)
        if self._broken is not None:
            raise self._broken

    def _flush(self) -> None:
        queue = self._queue
        while queue:
            view = queue[0]
            try:
                sent = self._sock.send(view)
            except (BlockingIOError, InterruptedError):
                if not self._writer.active:
                    self._writer.start(self._flush)
                return
            except OSError as failure:
                self._broken = failure  # the reader sees the end of the stream, too, and ends this worker
                queue.clear()
                self.backlog = 0
                break
            self.backlog -= sent
            if sent == len(view):
                queue.popleft()
            else:
                queue[0] = view[sent:]
        self._writer.stop()
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            waiter.wake()
        self._waiters.clear()

    def leave(self) -> None:
        """Listen and write no more, close nothing: the socket is its owner's."""
        for watcher in (self._reader, self._writer):
            watcher.stop()
            watcher.close()
        self._wake()
        if _end is self:
            join(None)

    def __str__(self) -> str:
        return "the bus"


def join(end: BusEnd | None) -> None:
    """Make ``end`` this process's."""
    global _end
    _end = end


def end() -> BusEnd | None:
    """This process's end of the bus; None in the parent and outside a server."""
    return _end
