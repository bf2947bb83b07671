"""Workers whose hub no longer comes round: reported with the blocking line, and in the end replaced.

Each worker writes the time into its row of the counters with every beat. One that is late is sent SIGUSR2, whose
handler runs in the middle of whatever blocks and logs its stack. One that stays late for ``worker_timeout`` gets
SIGABRT, upon which faulthandler writes the stack even out of C code, and is killed if that does not end it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from time import monotonic

from gkore import log
from gkore.master.children import Child, State
from gkore.protocol.counters import BEAT_TIME, Cell, Counters

OVERSLEPT = 2.0
"""Seconds: when the master's own turn took so long, the machine or the master stood still, not the workers."""


class Watchdog:
    """Compares beats with the clock; ``warn`` in milliseconds and ``limit`` in seconds are 0 for never."""

    def __init__(self, warn: int, limit: int) -> None:
        self._warn = warn
        self._limit = limit
        self._looked = monotonic()

    @property
    def on(self) -> bool:
        return bool(self._warn or self._limit)

    def pause(self) -> float:
        """Seconds until the next look."""
        return max(0.05, min(self._warn / 1000 / 2 or 1.0, 1.0)) if self.on else float("inf")

    def look(self, children: Iterable[Child], counters: Counters) -> None:
        """Once a turn of the master's loop: warn and kill where it is due."""
        now = monotonic()
        overslept = now - self._looked > OVERSLEPT
        self._looked = now
        if overslept:
            return
        for child in children:
            beat = counters.row(child.row)[Cell.BEAT]
            if child.state in (State.READY, State.DRAINING) and beat:
                self._judge(child, counters, now * 1000 - beat)

    def stuck(self, children: Iterable[Child], counters: Counters) -> bool:
        """Whether every worker that should serve has been blocked past its limit: systemd may judge the server."""
        now = monotonic() * 1000
        limit = (self._limit or 30) * 1000
        ages = [now - counters.row(child.row)[Cell.BEAT] for child in children if child.state is State.READY]
        return bool(ages) and min(ages) > limit

    def _judge(self, child: Child, counters: Counters, age: float) -> None:
        row = counters.row(child.row)
        late = age - BEAT_TIME * 1000
        if self._warn and late > self._warn and child.warned != row[Cell.BEAT]:
            child.warned = row[Cell.BEAT]
            row[Cell.LATE] += 1
            log.error(f"{child} has been blocked for {late:.0f} ms (worker_block_warn); it says where")
            child.signal(signal.SIGUSR2)
        if self._limit and late > self._limit * 1000 and not child.killed:
            child.abort(f"its hub was blocked for {self._limit} s (worker_timeout)")
