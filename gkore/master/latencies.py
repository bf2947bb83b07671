"""The latency histograms of all workers, those that have left included."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from gkore.protocol.latency import CELLS, Label, Latency, labels_of

if TYPE_CHECKING:
    from gkore.conf.application import Application


class Latencies:
    """Made only where ``metrics`` says that somebody will read them."""

    def __init__(self, application: Application) -> None:
        self._labels = labels_of(application.site) if application.settings.metrics else []
        self._past: dict[Label, list[int]] = {}

    def make(self) -> Latency | None:
        """One worker's, before its fork; None when nobody wants to know. OSError when the kernel has none."""
        return Latency(self._labels) if self._labels else None

    def end(self, latency: Latency | None) -> None:
        """The worker has left: keep its counts."""
        if latency is not None:
            _add(self._past, latency)
            latency.close()

    def totals(self, living: Iterable[Latency | None]) -> dict[Label, list[int]]:
        """The cells of every route, added up."""
        found = {label: list(cells) for label, cells in self._past.items()}
        for latency in living:
            if latency is not None:
                _add(found, latency)
        return found

    def bequeath(self) -> list[Any]:
        return [[label, cells] for label, cells in self._past.items()]

    def inherit(self, entries: list[Any]) -> None:
        self._past = {Label(*label): cells for label, cells in entries}


def _add(totals: dict[Label, list[int]], latency: Latency) -> None:
    for label, cells in latency.rows():
        total = totals.setdefault(label, [0] * CELLS)
        total[:] = map(int.__add__, total, cells)
