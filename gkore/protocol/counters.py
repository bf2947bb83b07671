"""The rows of shared memory in which workers count and from which the master reads.

One row of 32 unsigned 64-bit cells a slot, in one anonymous shared mapping made before the first fork. Only the worker
in the slot writes its row, single cells are written whole, so no lock is needed; the master only reads and adds up.
"""

from __future__ import annotations

import mmap
from enum import IntEnum

CELLS = 32


class Cell(IntEnum):
    """Which cell of a row holds what. Times are CLOCK_MONOTONIC milliseconds."""

    PID = 0
    BEAT = 1
    """Last time the hub came round: the master's watchdog compares it."""
    STATE = 2
    CONNECTIONS = 3
    ACCEPTED = 4
    REQUESTS = 5
    WEBSOCKETS = 6
    TASKS = 7
    RSS = 8
    LAG = 9
    ERRORS = 10


class Counters:
    """All rows of a fleet; ``row(n)`` is a writable view of slot n's cells (slots count from 1)."""

    __slots__ = ("_cells", "_map")

    def __init__(self, slots: int) -> None:
        self._map = mmap.mmap(-1, max(1, slots + 1) * CELLS * 8)
        self._cells = memoryview(self._map).cast("Q")

    def row(self, number: int) -> memoryview:
        return self._cells[number * CELLS : (number + 1) * CELLS]
