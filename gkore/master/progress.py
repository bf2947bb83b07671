"""A stop or a reload that takes long says every few seconds whom it waits for, and for how long at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gkore import log
from gkore.log import counted
from gkore.master.children import Child, State
from gkore.protocol.counters import Cell

if TYPE_CHECKING:
    from gkore.master.fleet import Fleet

PERIOD = 5.0
"""Seconds between two lines; what is over sooner needs none."""
NAMED_MAX = 8


class Progress:
    """When the next line is due."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._due = float("inf")

    def tick(self, now: float) -> None:
        """Once a turn of the master's loop; ``now`` is CLOCK_MONOTONIC seconds."""
        leaving = [child for child in self._fleet.children.values() if child.state is State.DRAINING]
        self._due = min(self._due, now + PERIOD) if leaving else float("inf")
        if now >= self._due:
            self._due = now + PERIOD
            counters = self._fleet.nursery.counters
            log.notice(told(leaving, lambda child: counters.row(child.row)[Cell.CONNECTIONS], now))


def told(leaving: list[Child], connections: Callable[[Child], int], now: float) -> str:
    """Who is still there."""
    parts = []
    for child in leaving[:NAMED_MAX]:
        count = counted(connections(child), "connection")
        left = "killed soon" if child.killed else f"{max(0.0, child.deadline - now):.0f} s left"
        parts.append(f"{child} has {count}, {left}")
    more = f"; and {len(leaving) - NAMED_MAX} more" if len(leaving) > NAMED_MAX else ""
    return f"still finishing requests: {'; '.join(parts)}{more}"
