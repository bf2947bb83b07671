"""Broadcasts to other hosts: every worker speaks to the carrier itself, on two greenlets that never hold up a client.

What is to be sent waits in a queue of QUEUE_MAX bytes; while the carrier can't be reached the oldest is lost.
Reconnects back off from a tenth of a second to ten. What was lost and how late messages are is counted and logged.
"""

from __future__ import annotations

import os
import time
from collections import deque
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event

from gkore import log
from gkore.protocol.counters import Cell
from gkore.protocol.parcels import Gaps, Parcel, pack, unpack
from gkore.worker import failures
from gkore.worker.carriers import Carrier, carrier

if TYPE_CHECKING:
    from gkore.worker.broadcast import Audience

QUEUE_MAX = 8 * 1024 * 1024
BATCH = 100
BACKOFF_LEAST, BACKOFF_MOST = 0.1, 10.0
LATE = 5000
"""Milliseconds on the way that are worth a line in the log."""


class Cluster:
    """One worker's way to the other hosts."""

    def __init__(self, audience: Audience, carrier: Carrier, name: str) -> None:
        self._audience = audience
        self._carrier = carrier
        self._name = name
        self._host = whose()
        self._number = 0
        self._gaps = Gaps()
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._more = Event()
        self._late = False
        self.tasks: list[Any] = []

    def start(self) -> None:
        """Connect, now and whenever the connection is lost."""
        self._audience.carry = self.carry
        self.tasks = [gevent.spawn(self._forever, job) for job in (self._speak, self._listen)]

    def stop(self) -> None:
        """Send what waits, for at most a second, and leave."""
        self._audience.carry = None
        end = time.monotonic() + 1
        while self._queue and time.monotonic() < end:
            gevent.sleep(0.01)
        gevent.killall(self.tasks, timeout=1)
        self._carrier.close()

    # Speaking

    def carry(self, payload: bytes) -> None:
        """Take one message; never waits."""
        self._number += 1
        parcel = Parcel(self._host, self._audience.origin, self._number, int(time.time() * 1000), payload)
        data = pack(parcel)
        self._queue.append(data)
        self._size += len(data)
        lost = 0
        while self._size > QUEUE_MAX and len(self._queue) > 1:
            self._size -= len(self._queue.popleft())
            lost += 1
        if lost:
            self._count_lost(lost, "the carrier can't be reached or is too slow")
        self._more.set()

    def _speak(self) -> None:
        queue = self._queue
        while True:
            self._more.wait()
            batch = [queue[place] for place in range(min(BATCH, len(queue)))]
            if batch:
                self._carrier.publish(batch)
            for data in batch:
                if queue and queue[0] is data:  # unless it was too old meanwhile
                    queue.popleft()
                    self._size -= len(data)
            if not queue:
                self._more.clear()

    # Listening

    def _listen(self) -> None:
        self._carrier.listen(self._connected, self._heard)

    def _connected(self) -> None:
        log.notice(f"websocket_bus: connected to {self._name}")

    def _heard(self, data: bytes) -> None:
        try:
            parcel = unpack(data)
            missed = self._gaps.missed(parcel)
            if missed and parcel.host != self._host:
                self._count_lost(missed, "a gap in what came")
            self._measure(parcel)
            if parcel.host != self._host:
                self._audience.heard(parcel.payload)
        except Exception as failure:
            failures.report("a message of websocket_bus", failure)

    def _measure(self, parcel: Parcel) -> None:
        lag = max(0, int(time.time() * 1000) - parcel.milliseconds)
        self._audience.counters[Cell.CLUSTER_LAG] = lag
        if (lag > LATE) is not self._late:
            self._late = lag > LATE
            why = "busy workers, a slow carrier or clocks that differ"
            text = f"late by {lag} ms: {why}" if self._late else "in time again"
            log.notice(f"websocket_bus: messages between hosts are {text}")

    # Both

    def _count_lost(self, count: int, why: str) -> None:
        before = self._audience.counters[Cell.CLUSTER_LOST]
        self._audience.counters[Cell.CLUSTER_LOST] = before + count
        if not before or (before + count) // 1000 > before // 1000:
            log.error(f"websocket_bus: {before + count} messages lost so far: {why}")

    def _forever(self, job: Any) -> None:
        """Run a job again and again, with pauses that grow while it fails."""
        pause = BACKOFF_LEAST
        while True:
            begun = time.monotonic()
            try:
                job()
            except Exception as failure:  # whatever the libraries raise: it means the same here
                if time.monotonic() - begun > BACKOFF_MOST:
                    pause = BACKOFF_LEAST
                if pause == BACKOFF_LEAST:
                    why = str(failure).strip() or repr(failure)
                    log.error(f"websocket_bus: {self._name}: {why}; trying again, ever more slowly")
            gevent.sleep(pause)
            pause = min(pause * 2, BACKOFF_MOST)


def whose() -> bytes:
    """What the workers of one master share and nobody else has: the boot, the process namespace, the master."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    parts = f"{boot} {os.readlink('/proc/self/ns/pid')} {os.getppid()}"
    return blake2b(parts.encode(), digest_size=8).digest()


def start(setting: str, audience: Audience) -> Cluster | None:
    """Begin to carry, when there is a carrier. StartError when the setting is wrong."""
    if not setting:
        return None
    made = Cluster(audience, carrier(setting), setting.rpartition("@")[2])
    made.start()
    return made
