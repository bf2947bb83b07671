"""The rows of shared memory in which workers count and from which the master reads.

One row of 32 unsigned 64-bit cells a worker, in one shared mapping made before the first fork; it has a descriptor, so
that the master's next program (SIGHUP) finds the rows of the workers that it takes over. Only the worker writes its
row, single cells are written whole, so no lock is needed; the master clears a row before it hands it out, notes the
slot in it, and after that only reads and adds up. A row belongs to a worker, not to its slot, because at a reload two
workers share a slot until the older one has drained.
"""

from __future__ import annotations

import mmap
from enum import IntEnum, unique

from gkore.protocol.shared import share

CELLS = 32
BEAT_TIME = 0.25
"""Seconds between two beats of a worker's hub."""


class Stage(IntEnum):
    """What a worker writes into its cell STATE."""

    BOOTING = 0
    ACCEPTING = 1
    DRAINING = 2


@unique
class Cell(IntEnum):
    """Which cell of a row holds what. Times are CLOCK_MONOTONIC milliseconds."""

    PID = 0
    BEAT = 1
    """Last time the hub came round: the master's watchdog compares it."""
    STATE = 2
    CONNECTIONS = 3
    REQUESTS = 5
    WEBSOCKETS = 6
    TASKS = 7
    RSS = 8
    LAG = 9
    """Milliseconds that the hub came round late, at the last beat."""
    SLOT = 11
    """Which slot the worker fills; 0 while nobody has the row."""
    SLOW = 12
    """Messages that websockets did not get, because they read too slowly."""
    RATE = 13
    """Requests in the second before the last beat."""
    LATE = 14
    """How often the master found the hub blocked."""
    HELPS = 15
    """1 while it accepts for workers that have more connections (``worker.spread``)."""
    ELDERS = 16
    """Connections that last: websockets, and others that have outlived a beat."""
    CLUSTER_LOST = 17
    """Broadcasts that did not reach other hosts or this one."""
    CLUSTER_LAG = 18
    """Milliseconds that the last one was on its way, by both hosts' clocks."""


class Counters:
    """All rows of a fleet; ``row(n)`` is a writable view of row n's cells, of which row 0 is the master's own."""

    __slots__ = ("_cells", "_map", "descriptor", "rows")

    def __init__(self, rows: int, descriptor: int | None = None) -> None:
        """``descriptor`` is that of rows made by the program before. OSError, ValueError when it isn't."""
        self.rows = max(1, rows)
        size = (self.rows + 1) * CELLS * 8
        if descriptor is None:
            descriptor = share("gkore-counters", size)
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, size)
        self._cells = memoryview(self._map).cast("Q")

    def row(self, number: int) -> memoryview:
        return self._cells[number * CELLS : (number + 1) * CELLS]

    def column(self, cell: int, rows: int) -> list[int]:
        """One cell of the first ``rows`` rows, which are the first to be handed out."""
        return self._cells[CELLS + cell : CELLS * (rows + 1) : CELLS].tolist()

    def take(self, slot: int) -> int:
        """The number of a row that nobody has, cleared and marked with ``slot``. RuntimeError when all are taken."""
        for number in range(1, self.rows + 1):
            cells = self.row(number)
            if not cells[Cell.SLOT]:
                cells[:] = memoryview(bytes(CELLS * 8)).cast("Q")
                cells[Cell.SLOT] = slot
                return number
        raise RuntimeError(f"all {self.rows} rows of counters are taken")

    def give_back(self, number: int) -> None:
        self.row(number)[Cell.SLOT] = 0
