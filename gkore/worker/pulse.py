"""A worker's pulse: it tells the master that the hub comes round, what it counts, and when it has served enough.

The row of counters is written with every beat, a few times a second: nothing is counted there for each request.
"""

from __future__ import annotations

import os
import random
from resource import RUSAGE_SELF, getrusage
from time import monotonic
from typing import Any

from gkore.protocol.bus import Kind
from gkore.protocol.counters import BEAT_TIME, Cell
from gkore.protocol.slot import Slot
from gkore.worker import tasks
from gkore.worker.bus import BusEnd
from gkore.worker.observation import Observation
from gkore.worker.service import Fleet
from gkore.worker.spread import Spread

JITTER = 0.1
"""Part of ``max_requests`` by which a worker may fall short of it, so that not all of them leave at once."""
PAGE = os.sysconf("SC_PAGE_SIZE")


class Pulse:
    """Called every BEAT_TIME seconds."""

    def __init__(self, fleet: Fleet, slot: Slot, settings: Any, bus: BusEnd, observation: Observation) -> None:
        self._fleet = fleet
        self._counters = slot.counters
        self._bus = bus
        self._observation = observation
        self._requests_max = round(settings.max_requests * (1 - JITTER * random.random()))
        self._rss_max: int = settings.worker_rss_max
        self.spread: Spread | None = None
        self._worn = False
        self._beats = round(1 / BEAT_TIME)  # the first one counts as a second: who looks then wants to see memory
        self._requests = 0
        self._expected = monotonic()
        self._memory = slot.memory

    def beat(self) -> None:
        fleet, counters = self._fleet, self._counters
        now = monotonic()
        counters[Cell.BEAT] = int(now * 1000)
        counters[Cell.LAG] = max(0, int((now - self._expected) * 1000))
        self._expected = now + BEAT_TIME
        counters[Cell.CONNECTIONS] = len(fleet.connections)
        counters[Cell.REQUESTS] = fleet.requests
        counters[Cell.TASKS] = fleet.pool.busy + tasks.busy()
        self._observation.fold()
        if self.spread is not None and not fleet.draining:
            self.spread.beat()
        self._beats += 1
        if self._beats * BEAT_TIME >= 1:
            self._beats = 0
            self._second()

    def _second(self) -> None:
        """Once a second: what is dearer, or means something by the second."""
        fleet, counters = self._fleet, self._counters
        counters[Cell.RATE] = fleet.requests - self._requests
        self._requests = fleet.requests
        counters[Cell.RSS] = rss = self.rss()
        if self._worn or fleet.draining:
            return
        if self._requests_max and fleet.requests >= self._requests_max:
            self._wear(f"{fleet.requests} requests (max_requests)")
        elif self._rss_max and rss > self._rss_max:
            self._wear(f"{rss} bytes of memory (worker_rss_max)")

    def _wear(self, why: str) -> None:
        self._worn = True
        self._bus.send(Kind.WORN, payload=why.encode())

    def rss(self) -> int:
        """Resident bytes, as of now; where no /proc is mounted the most that there ever were."""
        if self._memory is None:
            return getrusage(RUSAGE_SELF).ru_maxrss * 1024
        return int(os.pread(self._memory, 200, 0).split()[1]) * PAGE
