"""A slot's place in the fleet: whose sockets its worker serves, and when it may have the next worker.

A worker that does not start, or dies over and over, must not become a loop that eats a CPU: each failure in a row
doubles the wait. The first few crashes are answered at once: every second without a worker is capacity lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

WORKERS_MAX = 255
"""As Kore: ``workers`` may be 1..255."""
BACKOFF_FIRST, BACKOFF_MAX = 0.1, 5.0
"""Seconds; doubled from the one to the other."""
CRASHES_FREE, CRASHES_WINDOW = 5, 10.0
"""So many crashes in so many seconds are answered with a new worker at once; more are answered more slowly."""


def backoff(failures: int) -> float:
    """Seconds to wait after the n-th failure in a row: 0.1, 0.2, 0.4 ... 5."""
    return min(BACKOFF_MAX, BACKOFF_FIRST * 2.0 ** min(failures - 1, 16))


def covers(number: int, wanted: int, slots: int, mute: Collection[int]) -> frozenset[int]:
    """Whose sockets the worker in slot ``number`` serves: its own, and its share of the slots without a worker."""
    serving = [n for n in range(1, wanted + 1) if n not in mute]
    if number not in serving:
        return frozenset()
    orphans = [n for n in range(1, slots + 1) if n not in serving]  # a mute slot may have sockets from before a reload
    share = orphans[serving.index(number) :: len(serving)]
    return frozenset((number, *share))


@dataclass(slots=True)
class Seat:
    """What is remembered of a slot from one worker to the next. Times are CLOCK_MONOTONIC seconds."""

    failures: int = 0
    """Boots that failed since one succeeded."""
    crashes: deque[float] = field(default_factory=deque)
    due: float = 0.0
    """Before this no worker is forked for it."""

    def failed(self, now: float) -> float:
        """A boot failed; how many seconds the next one has to wait."""
        self.failures += 1
        pause = backoff(self.failures)
        self.due = now + pause
        return pause

    def crashed(self, now: float) -> float:
        """A worker that was READY died; how many seconds its successor has to wait, mostly 0."""
        self.crashes.append(now)
        while self.crashes[0] < now - CRASHES_WINDOW:
            self.crashes.popleft()
        surplus = len(self.crashes) - CRASHES_FREE
        pause = backoff(surplus) if surplus > 0 else 0.0
        self.due = now + pause
        return pause

    def forgive(self) -> None:
        """The operator asks for something new: try at once."""
        self.failures, self.due = 0, 0.0
