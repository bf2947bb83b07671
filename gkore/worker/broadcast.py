"""Who hears what: all websockets of this worker, their topics, and the same in other workers and on other hosts.

- A message is encoded once a worker, and once more when some clients agreed to compression.
- ``Websocket.push`` never waits, so one slow reader costs nobody else anything.
- LOCAL stays in this worker. GLOBAL also travels over the bus to all: an audience knows its own by ``origin``, which is
  this process and no other. (Not by the number of the worker: at a reload two share it.)
- CLUSTER also goes to other hosts, when ``websocket_bus`` names a carrier.
- The source never gets its own message; it can only be connected to this worker.
- What one worker sends arrives in the order in which it was sent: every way between is a queue.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from gkore import log
from gkore.protocol.bus import EVERYBODY, Envelope, Kind
from gkore.protocol.counters import Cell
from gkore.protocol.frames import BINARY, COMPRESS_MIN, TEXT, encode
from gkore.worker.bridge import Pool
from gkore.worker.ready import Ready

if TYPE_CHECKING:
    from gkore.worker.bus import BusEnd
    from gkore.worker.outbox import Outbox
    from gkore.worker.websocket import Websocket

LOCAL, GLOBAL, CLUSTER = 1, 2, 3
HEAD = struct.Struct("!8sBH")
"""Origin, op, length of the topic; then the topic and the payload."""
TOPIC_MAX = 1024
"""Bytes of a topic's name."""
FAREWELLS = 0.5
"""The part of the drain time over which a reload spreads its farewells: not all clients come back at once."""


class Audience:
    """The websockets of one worker."""

    def __init__(self, settings: Any, counters: memoryview, bus: BusEnd | None = None) -> None:
        self.frame_max: int = settings.websocket_maxframe
        self.message_max: int = settings.websocket_maxmessage
        self.timeout: int = settings.websocket_timeout
        self.ping: int = settings.websocket_ping
        self.compress: bool = settings.websocket_compress
        self.drops: bool = settings.websocket_slow == "drop"
        self.backlog_max: int = settings.websocket_backlog
        self.write_timeout: int = settings.http_write_timeout
        self.origins = frozenset(origin.lower() for origin in settings.websocket_origin)
        self.counters = counters
        self.pool = Pool(2**31)
        """Tasks of callbacks: as many as there are websockets at most, and none of those that serve requests."""
        self.ready = Ready(self.pool)
        self.members: set[Websocket] = set()
        self.topics: dict[str, set[Websocket]] = {}
        self.origin = os.urandom(8)
        self.carry: Callable[[bytes], object] | None = None
        """Takes what is to reach other hosts."""
        self._bus = bus
        self._farewells: tuple[list[Websocket], int] = ([], 0)

    # Members

    def join(self, websocket: Websocket) -> None:
        self.members.add(websocket)
        self.counters[Cell.WEBSOCKETS] = len(self.members)

    def leave(self, websocket: Websocket) -> None:
        """Forget a websocket, with its topics."""
        self.members.discard(websocket)
        self.counters[Cell.WEBSOCKETS] = len(self.members)
        for topic in websocket.topics or ():
            self._drop(topic, websocket)

    def subscribe(self, websocket: Websocket, topic: str) -> None:
        check_topic(topic)
        self.topics.setdefault(topic, set()).add(websocket)

    def unsubscribe(self, websocket: Websocket, topic: str) -> None:
        self._drop(topic, websocket)

    def _drop(self, topic: str, websocket: Websocket) -> None:
        members = self.topics.get(topic)
        if members is not None:
            members.discard(websocket)
            if not members:
                del self.topics[topic]

    # Messages

    def publish(self, topic: str, op: int, data: bytes, scope: int, source: Websocket | None = None) -> None:
        """Send to all (topic ""), or to those who subscribed; waits only when the bus is full."""
        self.deliver(topic, op, data, source)
        if scope == LOCAL:
            return
        name = topic.encode()
        sealed = HEAD.pack(self.origin, op, len(name)) + name + data
        if self._bus is not None:
            self._bus.send(Kind.BROADCAST, EVERYBODY, sealed)
        if scope == CLUSTER and self.carry is not None:
            self.carry(sealed)

    def deliver(self, topic: str, op: int, data: bytes, source: Websocket | None = None) -> None:
        """Send to the members of this worker."""
        members: Iterable[Websocket] = self.topics.get(topic, ()) if topic else self.members
        frames = {0: encode(op, data)}
        compressed = self.compress and len(data) >= COMPRESS_MIN
        for websocket in tuple(members):
            if websocket is source:
                continue
            window = websocket.window if compressed else 0
            frame = frames.get(window)
            if frame is None:
                frame = frames[window] = encode(op, data, window)
            websocket.push(frame)

    def heard(self, sealed: bytes) -> None:
        """A message from another worker or host; our own comes back from the bus and is passed over."""
        origin, op, size = HEAD.unpack_from(sealed)
        if origin != self.origin:
            end = HEAD.size + size
            self.deliver(sealed[HEAD.size : end].decode(), op, sealed[end:])

    def heard_on_bus(self, envelope: Envelope) -> None:
        self.heard(envelope.payload)

    # Leaving

    def drain(self, reason: str, elapsed: float, drain_time: float) -> None:
        """Say farewell to those whose turn it is: at a stop to all (1001), at a reload bit by bit (1012)."""
        waiting, total = self._farewells
        if not total:
            waiting = list(self.members)
            total = len(waiting)
            self._farewells = (waiting, total)
        span = drain_time * FAREWELLS if reason == "reload" else 0.0
        due = total if elapsed >= span else int(total * elapsed / span)
        code, text = (1012, "the server is being reloaded") if reason == "reload" else (1001, "the server stops")
        while waiting and total - len(waiting) < due:
            waiting.pop().close(code, text)
        if due == total:
            for late in tuple(self.members):  # a handshake was under way when the drain began
                late.close(code, text)

    def dropped(self, websocket: Outbox, what: str) -> None:
        """A reader was too slow: counted for each message, logged once for each client."""
        self.counters[Cell.SLOW] += 1
        if not websocket.warned:
            websocket.warned = True
            log.notice(f"{websocket.connection!r} reads too slowly, {websocket.backlog} bytes wait: {what}")


def check_op(op: int) -> None:
    """TypeError ``invalid op parameter`` for anything but text and binary, as in Kore."""
    if op != TEXT and op != BINARY:
        raise TypeError("invalid op parameter")


def check_topic(topic: str) -> None:
    """TypeError or ValueError for what can't be a topic's name."""
    if not isinstance(topic, str):
        raise TypeError(f"a topic is a str, not {topic.__class__.__name__}")
    if not topic or len(topic.encode()) > TOPIC_MAX:
        raise ValueError(f"a topic's name has 1 to {TOPIC_MAX} bytes")


def payload(op: int, data: Any) -> bytes:
    """The bytes of a message. TypeError when it has none; ValueError when a text's bytes are no UTF-8."""
    check_op(op)
    if data.__class__ is str:
        return data.encode()
    if data.__class__ is not bytes:
        if not isinstance(data, (bytes, bytearray, memoryview, str)):
            raise TypeError(f"a websocket message is bytes or str, not {data.__class__.__name__}")
        data = data.encode() if isinstance(data, str) else bytes(data)
    if op == TEXT and not data.isascii():
        data.decode()  # RFC 6455 8.1: the client would have to fail the connection
    return data  # type: ignore[no-any-return]


_audience: Audience | None = None


def gather(audience: Audience | None) -> None:
    """Make ``audience`` this process's."""
    global _audience
    _audience = audience


def audience() -> Audience:
    """This worker's audience. RuntimeError in the parent and outside of a server."""
    if _audience is None:
        raise RuntimeError("there are websockets in workers only")
    return _audience
