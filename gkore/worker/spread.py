"""Long-lived connections, even over the workers: who has fewer than its share accepts for who has more.

The kernel spreads connections over the slots by hash, whatever each worker holds already; after a worker was replaced
it stays behind for as long as the others' websockets live. So every worker holds its neighbours' listening sockets too,
and looks at everybody's count with each beat, and when it has accepted up to its share:

- below its share while somebody is above: it helps, that is, it also accepts from the sockets of those above, up to its
  share, and says so in the counters;
- above its share while somebody helps: it accepts nothing, the helper does.

Who pauses has seen a helper first, and a helper goes on for a while after it has said that it stops: there is always
somebody who accepts. A helper that dies or blocks is known by its beat, within a second.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from gkore.protocol.counters import BEAT_TIME, Cell, Counters, Stage
from gkore.worker.acceptor import Acceptor

ABOVE, BELOW, SLACK = 1.02, 0.98, 4
"""Of the mean, beyond SLACK connections: where a worker counts as above or below its share."""
STEP = 16
"""Connections beyond its share that a worker accepts before it looks again whether somebody helps now."""
FRESH = 4 * BEAT_TIME * 1000
"""Milliseconds that a beat may be old: then its worker is not counted on."""
AFTER = 3
"""Beats for which a helper goes on."""


class Spread:
    """One worker's part in it; ``neighbours`` are acceptors of all other slots' sockets, by slot."""

    def __init__(
        self, slot: int, counters: Counters, row: memoryview, own: list[Acceptor], neighbours: dict[int, list[Acceptor]]
    ) -> None:
        self._slot = slot
        self._counters = counters
        self._row = row
        self._own = own
        self._limit = own[0].maximum if own else 0
        self._neighbours = neighbours
        self._after = 0
        self.paused = False
        """Somebody else accepts for us."""
        for acceptor in own:
            acceptor.recount = self.beat

    def beat(self, connections: int) -> None:
        """Compare with the others, and begin or end to help or to pause."""
        self._row[Cell.CONNECTIONS] = connections
        held = self._held()
        if len(held) < 2:
            self._help((), 0)
            self._pause(False, self._limit)
            return
        mean = sum(count for _, count, _ in held) / len(held)
        most = mean * ABOVE + SLACK
        above = {slot for slot, count, _ in held if count > most}
        self._help(above if connections < mean * BELOW else (), int(mean) + 1)
        helped = connections > most and any(helps for _, _, helps in held)
        self._pause(helped, int(most) + 1 if connections < most else connections + STEP)

    def _held(self) -> list[tuple[int, int, int]]:
        """Slot, connections and willingness to help of every worker that accepts and is alive."""
        column: Callable[[int], list[int]] = self._counters.column
        now = monotonic() * 1000
        rows = zip(
            *map(column, (Cell.SLOT, Cell.CONNECTIONS, Cell.HELPS, Cell.STATE, Cell.BEAT)),
            strict=True,
        )
        return [
            (slot, count, helps)
            for slot, count, helps, stage, beat in rows
            if slot and stage == Stage.ACCEPTING and now - beat < FRESH
        ]

    def _help(self, slots: set[int] | tuple[()], most: int) -> None:
        if slots:
            self._after = AFTER
        elif self._after:
            self._after -= 1
        self._row[Cell.HELPS] = bool(slots)
        for slot, acceptors in self._neighbours.items():
            for acceptor in acceptors:
                if slot in slots:
                    acceptor.maximum = most
                    acceptor.start()
                elif not self._after:
                    acceptor.stop()

    def _pause(self, wish: bool, most: int) -> None:
        self.paused = wish
        for acceptor in self._own:
            acceptor.maximum = min(most, self._limit)
            acceptor.stop() if wish else acceptor.start()

    def end(self) -> None:
        """At a drain: let go of what is others'."""
        self._row[Cell.HELPS] = 0
        for acceptors in self._neighbours.values():
            for acceptor in acceptors:
                acceptor.close()
        self._neighbours = {}
