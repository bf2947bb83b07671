"""One websocket: a connection after its handshake.

- On the hub: bytes come, ``FrameReader`` makes messages of them; they are handed to a task. An idle websocket has no
  greenlet, no engine and no buffer.
- On a task: callbacks run, one message after the other. While they run, what comes is kept, up to AHEAD_MAX; then the
  watcher stops and TCP holds the client.
- What is sent, see ``outbox``.
- The end: both sides say Close, we half-close and read until the client has closed, at most FAREWELL seconds. onconnect
  and ondisconnect are called exactly once each, or neither when the client left before it was connected.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from greenlet import getcurrent

from gkore.protocol.frames import PING, FrameReader, Message
from gkore.worker import failures
from gkore.worker.bridge import run
from gkore.worker.broadcast import check_topic
from gkore.worker.outbox import Outbox
from gkore.worker.waits import Waiter

if TYPE_CHECKING:
    from websockets.extensions.permessage_deflate import PerMessageDeflate

    from gkore.errors import ProtocolError
    from gkore.worker.broadcast import Audience
    from gkore.worker.connection import Connection

RECV: Final = 130048
"""Most messages of 64 KiB come in one piece; a little less than what malloc maps and unmaps where it keeps nothing
(see ``heap``)."""
AHEAD_MAX: Final = 65536
"""Bytes that may come while callbacks run."""
FAREWELL: Final = 3
"""Seconds that a client has to answer our Close, and then to close its side."""


class Callbacks:
    """What the application wants to hear; None where it doesn't."""

    __slots__ = ("connect", "disconnect", "message")

    def __init__(
        self,
        connect: Callable[[Connection], Any] | None,
        message: Callable[[Connection, int, Any], Any] | None,
        disconnect: Callable[[Connection], Any] | None,
    ) -> None:
        self.connect = connect
        self.message = message
        self.disconnect = disconnect


class Websocket(Outbox):
    """One websocket of this worker; the application knows it by its ``connection``."""

    __slots__ = (
        "_ahead",
        "_reading",
        "begun",
        "callbacks",
        "deaf",
        "ending",
        "gone",
        "heard",
        "pending",
        "pinged",
        "recv",
        "subprotocol",
        "topics",
    )

    def __init__(
        self, connection: Connection, audience: Audience, callbacks: Callbacks, deflate: PerMessageDeflate | None = None
    ) -> None:
        super().__init__(connection, audience, FrameReader(audience.message_max, audience.frame_max, deflate))
        if deflate is not None:
            self.window = deflate.local_max_window_bits
        self.recv = connection.sock.recv
        self.callbacks = callbacks
        self.subprotocol = ""
        self.heard = self.clock.now
        """When the client last said anything."""
        self.pinged = 0
        self.pending: list[Message] = []
        """Messages that no callback has seen."""
        self._ahead = 0
        self.topics: set[str] | None = None
        self._reading: Waiter | None = None
        self.ending = 0
        """When the closing began; 0 until then."""
        self.deaf = False
        """We said Close first: what still comes is of no interest."""
        self.begun = False
        self.gone = False

    # On the hub: bytes have come.

    def readable(self) -> None:
        try:
            data = self.recv(RECV)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.vanish()
            return
        self.heard = self.clock.now
        reader = self.reader
        messages = reader.feed(data)
        if messages and not self.deaf:
            if self.task is None and not self.pending and self.begun:
                self.pending = messages
                # As ``ready.add``, a call less.
                ready = self.audience.ready
                if not ready.queue:
                    ready.begin()
                ready.queue.append(self)
            else:
                self._hold(messages, len(data))
        if reader.out or reader.finished:
            self._answer()

    def take(self, data: bytes) -> None:
        """Bytes that came behind the handshake, before anybody can hear them."""
        messages = self.reader.feed(data)
        if messages:
            self._hold(messages, len(data))
        if self.reader.out or self.reader.finished:
            self._answer()

    def _hold(self, messages: list[Message], size: int) -> None:
        """Messages, of ``size`` bytes on the wire, wait for a callback that runs."""
        self.pending += messages
        self._ahead += size
        if self._ahead >= AHEAD_MAX:
            self.connection.watcher.stop()
        if self._reading is not None:
            self._reading.wake()

    def _answer(self, last: bool = False) -> None:
        """Send what the protocol wants to be sent: pongs, a Close; pongs are not worth waiting for."""
        reader = self.reader
        if reader.closing:
            self.ending = self.ending or self.clock.now or 1
            if reader.finished and not (last or self.deaf) and (self.pending or self.task is not None):
                if self._reading is not None:
                    self._reading.wake()
                return  # what came before the client's Close is served before we answer it
            self.over = True
            self.audience.leave(self)
            if self._reading is not None:
                self._reading.wake()
        for frame in reader.out:
            if reader.closing or self.backlog < self.audience.backlog_max:
                self._write(frame)
        reader.out.clear()
        if reader.finished and self._queue is None:
            self._half_close()

    # On a task: callbacks.

    def begin(self) -> None:
        """The handshake's handler is done; its task goes on with onconnect and what came meanwhile."""
        if self.gone or self.connection.lost:
            self.vanish()
            self.connection.close()
            return
        self.task = getcurrent()
        self.begun = True
        connect = self.callbacks.connect
        if connect is not None:
            try:
                finish(connect(self.connection))
            except BaseException as failure:
                self._failed("onconnect", failure)
        self.serve()

    def serve(self) -> None:
        """Run the callback for each message that waits, in order, and the farewell when the client is gone."""
        message = self.callbacks.message
        connection = self.connection
        task = self.task
        assert task is not None
        task.gr_context = None  # context variables of whom this task served before
        try:
            while self.pending and not self.deaf:
                batch = self.pending
                self.pending = []
                for op, data in batch:
                    if message is not None and not self.deaf:
                        result = message(connection, op, data)
                        if result is not None:
                            finish(result)
        except BaseException as failure:
            self._failed("onmessage", failure)
        if self.pending:
            self.pending = []
        if self.gone:
            self._farewell()
        elif self._ahead:
            self._listen()
        self.task = None
        if self.ending and not self.over:
            self._answer()

    def _listen(self) -> None:
        """Read again, if there was so much that we stopped."""
        self._ahead = 0
        watcher = self.connection.watcher
        if not self.gone and not watcher.active:
            watcher.start(self.readable)

    def _failed(self, name: str, failure: BaseException) -> None:
        """A callback raised: this connection ends, and nothing else (in Kore: the worker)."""
        failures.report(f"websocket callback {name}", failure)
        self.close(1011, "the application failed")

    def _farewell(self) -> None:
        disconnect = self.callbacks.disconnect
        if self.begun and disconnect is not None:
            try:
                finish(disconnect(self.connection))
            except BaseException as failure:
                failures.report("websocket callback ondisconnect", failure)

    # Without callbacks: a hosted application waits for messages itself.

    def receive(self) -> Message | None:
        """The next message, waiting for it; None at the end."""
        while not self.pending:
            if self.ending and not self.over:
                self._answer(last=True)
            if self.over:
                return None
            self._listen()
            self._reading = Waiter()
            try:
                self._reading.wait(self)
            finally:
                self._reading = None
        return self.pending.pop(0)

    # Topics

    def subscribe(self, topic: str) -> None:
        check_topic(topic)
        if not self.gone:
            self.audience.subscribe(self, topic)
            self.topics = self.topics or set()
            self.topics.add(topic)

    def unsubscribe(self, topic: str) -> None:
        self.audience.unsubscribe(self, topic)
        if self.topics is not None:
            self.topics.discard(topic)

    # The end

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begin the closing handshake. ValueError for a code that no frame may carry."""
        self.reader.close(code, reason)
        if self.gone:
            return
        self.deaf = True
        self._answer()

    def vanish(self) -> None:
        """The connection is over, in order or not; ondisconnect comes when the running callback is done."""
        if self.gone:
            return
        self.gone = self.over = True
        connection = self.connection
        connection.lost = True
        self.audience.leave(self)
        self._forget_queue()
        for waiter in (self._reading, self._writing):
            if waiter is not None:
                waiter.wake()
        if connection.task is not None:
            connection.watcher.stop()  # the handler of the handshake still runs: it closes
            return
        connection.close()
        if self.task is None and self.begun and not self.pending:
            self.audience.ready.add(self)

    def refuse(self, refusal: ProtocolError) -> None:
        """Nobody can run the callbacks."""
        self.close(1013, str(refusal))

    def overdue(self, now: int) -> None:
        """Asked once a second: silent, slow or closing for too long?"""
        audience = self.audience
        if self.ending:
            if now - self.ending > FAREWELL:
                self.vanish()
        elif self._queue is not None and now - self.since > audience.write_timeout:
            audience.dropped(self, "cut off")
            self.vanish()
        elif audience.timeout and now - self.heard > audience.timeout:
            self.close(1001, f"silent for {audience.timeout} seconds")
        elif audience.ping and now - max(self.heard, self.pinged) >= audience.ping:
            self.pinged = now
            self.push(PING)


def finish(result: Any) -> None:
    """Run what a callback returned, when it is a coroutine."""
    if isinstance(result, Coroutine):
        run(result)
