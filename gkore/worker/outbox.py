"""The sending half of a websocket: what the kernel does not take at once waits, up to a bound.

Sending never waits, with one exception: a callback that sends to its own client waits for that client when it reads too
slowly, because nobody else waits with it. All others' messages are bounded by ``websocket_backlog``, and
``websocket_slow`` says what happens beyond.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from gevent import get_hub
from greenlet import getcurrent, greenlet

from gkore.protocol.frames import BINARY, SMALL, TEXT, FrameReader, encode, head
from gkore.worker.broadcast import check_op, payload
from gkore.worker.waits import Waiter

if TYPE_CHECKING:
    from gkore.worker.broadcast import Audience
    from gkore.worker.connection import Connection

JOIN_MAX: Final = 65536
"""Waiting frames are sent in pieces of about this size."""
COPY_MAX: Final = 16384
"""Up to this size head and payload are copied into one piece."""
WRITE: Final = 2


class Outbox:
    """What one client has yet to read."""

    __slots__ = (
        "_queue",
        "_send",
        "_writer",
        "_writing",
        "audience",
        "backlog",
        "clock",
        "connection",
        "over",
        "reader",
        "since",
        "task",
        "warned",
        "window",
    )

    def __init__(self, connection: Connection, audience: Audience, reader: FrameReader) -> None:
        self.connection = connection
        self.audience = audience
        self.reader = reader
        self.clock = connection.clock
        self.window = 0
        """Bits of the window for what we compress; 0: this client did not agree to compression."""
        self.task: greenlet | None = None
        """The greenlet that runs callbacks now."""
        self.backlog = 0
        """Bytes that wait to be sent."""
        self.since = 0
        """When the client last took anything, while something waits."""
        self.warned = False
        self.over = False
        """Nothing can be sent any more: our Close was, or the connection is gone."""
        self._send = connection.sock.send
        self._queue: list[bytes] | None = None
        self._writer: Any = None
        self._writing: Waiter | None = None

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begin the closing handshake."""
        raise NotImplementedError

    def vanish(self) -> None:
        """The connection is over."""
        raise NotImplementedError

    def send(self, op: int, data: Any) -> bool:
        """Send one message, str or bytes; False when the client is gone or too slow. TypeError as in Kore.

        It never waits, but for the client's own callback, which waits while its client reads too slowly.
        """
        # Flat, because an echo server does little else: measured, four calls less are a quarter of gkore's own time.
        if data.__class__ is str:
            data = data.encode()
        elif data.__class__ is not bytes or op != BINARY:
            data = payload(op, data)
        size = len(data)
        if size < 126 and (op == BINARY or op == TEXT):  # noqa: SIM109  a tuple would be made for each message
            frame = SMALL[op][size] + data
        else:
            check_op(op)
            if size >= COPY_MAX and not self.window and self._queue is None and not self.over:
                return self._send_large(head(0x80 | op, size), data)
            frame = encode(op, data, self.window)
        if self._queue is not None:
            if getcurrent() is self.task:
                self._wait_for_room()
            return self.push(frame)
        if self.over:
            return False
        try:
            sent: int = self._send(frame)
        except OSError as failure:
            return self._unsent(frame, failure)
        return sent == len(frame) or self._keep(frame, sent)

    def _send_large(self, head: bytes, data: bytes) -> bool:
        """As ``send``, without a copy of the payload (64 KiB: 2 us)."""
        try:
            sent: int = self.connection.sock.sendmsg((head, data))
        except OSError as failure:
            return self._unsent(head + data, failure)
        return sent == len(head) + len(data) or self._keep(head + data, sent)

    def _wait_for_room(self) -> None:
        while self.backlog > self.audience.backlog_max // 2 and not self.over:
            self._writing = Waiter()
            try:
                self._writing.wait(self)
            finally:
                self._writing = None

    def push(self, frame: bytes) -> bool:
        """Send a frame or keep it until the client reads; never waits. False when the client is gone or too slow."""
        if self.over:
            return False
        if self._queue is None:  # as _write, a call less for each member of a broadcast
            try:
                sent: int = self._send(frame)
            except OSError as failure:
                return self._unsent(frame, failure)
            return sent == len(frame) or self._keep(frame, sent)
        audience = self.audience
        if self.backlog + len(frame) <= audience.backlog_max:
            return self._write(frame)
        if audience.drops:
            audience.dropped(self, "messages are dropped")
            return False
        audience.dropped(self, "closed")
        del self._queue[1:]  # the first may be on its way in part
        self.backlog = len(self._queue[0])
        self.close(1008, "reads too slowly")
        return False

    def _write(self, frame: bytes) -> bool:
        queue = self._queue
        if queue is not None:
            queue.append(frame)
            self.backlog += len(frame)
            return True
        try:
            sent: int = self._send(frame)
        except OSError as failure:
            return self._unsent(frame, failure)
        return sent == len(frame) or self._keep(frame, sent)

    def _unsent(self, frame: bytes, failure: OSError) -> bool:
        if isinstance(failure, (BlockingIOError, InterruptedError)):
            return self._keep(frame, 0)
        self.vanish()
        return False

    def _keep(self, frame: bytes, sent: int) -> bool:
        """The kernel did not take all of it: from now on frames wait in a queue."""
        self._queue = [frame[sent:]]
        self.backlog = len(frame) - sent
        self.since = self.clock.now
        self._writer = get_hub().loop.io(self.connection.fd, WRITE)
        self._writer.start(self._writable)
        return True

    def _writable(self) -> None:
        """The client reads again."""
        queue = self._queue
        assert queue is not None
        count = size = 0
        for frame in queue:
            count += 1
            size += len(frame)
            if size >= JOIN_MAX:
                break
        data = queue[0] if count == 1 else b"".join(queue[:count])
        try:
            sent: int = self._send(data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.vanish()
            return
        self.since = self.clock.now
        self.backlog -= sent
        queue[:count] = [data[sent:]] if sent < len(data) else []
        if not queue:
            self._forget_queue()
            if self.reader.finished:
                self._half_close()
        if self._writing is not None:
            self._writing.wake()

    def _forget_queue(self) -> None:
        self._queue = None
        self.backlog = 0
        if self._writer is not None:
            self._writer.stop()
            self._writer.close()
            self._writer = None

    def _half_close(self) -> None:
        """All is said on both sides (RFC 6455 7.1.1): let the client see our end and read until it shows its own."""
        with suppress(OSError):
            self.connection.sock.shutdown(socket.SHUT_WR)
