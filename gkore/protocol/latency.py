"""How long the handlers of each route take: one worker's histograms, in memory that the master reads.

One row a route; the worker alone writes it, a few times a second. Each worker has a mapping of its own, as routes may
change from one program of the master to the next; its descriptor is handed on with the worker.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from posix import close  # not os.close: see log
from typing import TYPE_CHECKING, Any, NamedTuple

from gkore.protocol.shared import share

if TYPE_CHECKING:
    from gkore.conf.site import Site

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: those of Prometheus' clients, and three below, where most of our requests are."""
CELLS = len(BOUNDS) + 2
"""One for each bound, one for what took longer, and the sum."""
SUM = CELLS - 1
"""Nanoseconds."""


class Label(NamedTuple):
    """Which route a row is about: two that differ in their methods only share one."""

    domain: str
    route: str


def labels_of(site: Site) -> list[Label]:
    """The rows that a site needs, in their order."""
    every = (Label(domain.name, route.path) for domain in site.domains for route in domain.routes)
    return list(dict.fromkeys(every))


class Latency:
    """One worker's rows."""

    __slots__ = ("_cells", "_map", "descriptor", "labels")

    def __init__(self, labels: Iterable[Sequence[str]], descriptor: int | None = None) -> None:
        """``descriptor`` is that of rows that are there already. OSError, ValueError when it isn't."""
        self.labels = [Label(*label) for label in labels]
        size = max(1, len(self.labels)) * CELLS * 8
        if descriptor is None:
            descriptor = share("gkore-latency", size)
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, size)
        self._cells = memoryview(self._map).cast("Q")

    def row(self, label: Label) -> memoryview:
        """The cells of a route, to write. ValueError when it has none."""
        at = self.labels.index(label) * CELLS
        return self._cells[at : at + CELLS]

    def rows(self) -> Iterator[tuple[Label, list[int]]]:
        """Everything, as of now."""
        cells = self._cells.tolist()
        for number, label in enumerate(self.labels):
            yield label, cells[number * CELLS : (number + 1) * CELLS]

    def close(self) -> None:
        """Nobody reads it any more."""
        self._cells.release()
        self._map.close()
        close(self.descriptor)

    def bequeath(self) -> dict[str, Any]:
        return {"labels": self.labels, "descriptor": self.descriptor}

    @classmethod
    def inherit(cls, entry: dict[str, Any]) -> Latency:
        os.set_inheritable(entry["descriptor"], False)
        return cls(entry["labels"], entry["descriptor"])
