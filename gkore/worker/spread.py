"""Long-lived connections, even over the workers: who has fewer than its share accepts for who has more.

The kernel spreads connections over the slots by hash, whatever each worker holds already; after a worker was replaced
it stays behind for as long as the others' websockets live. So every worker holds its neighbours' listening sockets too,
and looks at everybody's elders (websockets, and other connections that have outlived a beat) with each beat, and after
every few connections:

- below its share while somebody is above, and not busy: it helps, that is, it also accepts from the sockets of those
  above, and says so in the counters;
- above its share while somebody helps: it accepts nothing, the helper does; nor does it for HOPE, in which somebody
  who is below will have looked;
- above its share while a worker is missing, whose share counts as empty: it accepts nothing either, for PATIENCE at
  most. What comes then waits for the successor, who helps from its first moment. Otherwise the clients that a worker
  took with it would all be back, at the others, before it has a successor;
- when a worker stays missing longer than that: all others accept from its sockets, too.

Connections that come and go are never elders: their work stays where the kernel put it. Who pauses has seen a helper
first, and a helper goes on for a while after it has said that it stops: there is somebody who accepts. A helper
that dies or blocks is known by its beat, within a second.
"""

from __future__ import annotations

from time import monotonic, process_time

from gkore.protocol.counters import BEAT_TIME, Cell, Counters, Stage
from gkore.worker.acceptor import Acceptor
from gkore.worker.service import Fleet

ABOVE, BELOW, SLACK = 1.02, 0.98, 4
"""Of the mean, beyond SLACK connections: where a worker counts as above or below its share."""
BUSY = 0.8
"""Of a CPU: a worker that uses more has no time to help."""
PATIENCE = 1.0
"""Seconds that a lost worker's successor is waited for: it takes a tenth of that, unless its own set-up is long."""
HOPE = 3 * BEAT_TIME
"""Seconds that a helper is waited for."""
STEP = 8
"""Connections that are accepted before the worker looks again whether somebody helps now."""
FRESH = 4 * BEAT_TIME * 1000
"""Milliseconds that a beat may be old: then its worker is not counted on."""
AFTER = 3
"""Beats for which a helper goes on."""


class Spread:
    """One worker's part in it; ``neighbours`` are acceptors of all other slots' sockets, by slot."""

    def __init__(
        self,
        fleet: Fleet,
        counters: Counters,
        row: memoryview,
        own: list[Acceptor],
        neighbours: dict[int, list[Acceptor]],
    ) -> None:
        self._fleet = fleet
        self._counters = counters
        self._row = row
        self._own = own
        self._neighbours = neighbours
        self._limit = own[0].limit if own else 0
        self._every = [*own, *(acceptor for group in neighbours.values() for acceptor in group)]
        self._websockets = 0
        """Websockets at the last beat."""
        self._elders = 0
        """Elders at the last beat."""
        self._hope = 0.0
        """Until when a helper is waited for."""
        self._complete = monotonic()
        """When no worker was missing, last."""
        self._rows = 4 * (len(neighbours) + 1)
        self._seen: frozenset[object] = frozenset()
        self._after = 0
        self._clocks = (monotonic(), process_time())
        self._busy = False
        self.paused = False
        """Somebody else accepts for us."""
        for acceptor in self._every:
            acceptor.recount = self.look

    def beat(self) -> None:
        """Count the elders, then look."""
        seen = frozenset(self._fleet.connections)
        self._websockets = self._row[Cell.WEBSOCKETS]
        fresh = seen - self._seen
        self._elders = len(seen) - sum(connection.websocket is None for connection in fresh)
        self._seen = seen
        before, self._clocks = self._clocks, (monotonic(), process_time())
        wall, used = (now - then for now, then in zip(self._clocks, before, strict=True))
        self._busy = used > BUSY * wall and wall > BEAT_TIME / 2  # the first beat comes right after the boot
        if self._after:
            self._after -= 1
        self.look()

    def look(self) -> None:
        """Compare with the others, and begin or end to help or to pause."""
        count = len(self._fleet.connections)
        mine = min(count, self._elders + max(0, self._row[Cell.WEBSOCKETS] - self._websockets))
        self._row[Cell.ELDERS] = mine
        held = self._held()
        lost = self._neighbours.keys() - {slot for slot, _, _ in held}
        hopeless = self._hopeless(bool(lost))
        workers = max(1, len(held) + (0 if hopeless else len(lost)))
        mean = sum(elders for _, elders, _ in held) / workers
        most = mean * ABOVE + SLACK
        above = {slot for slot, elders, _ in held if elders > most}
        fresh = count - mine  # those that came in this beat count for us, or we would take too many
        share = mean + fresh / workers
        helps = not self._busy and count < share * BELOW
        if count > share + SLACK:
            self._after = 0  # a crowd: better that it waits for the others' next beat than that we take it all
        self._help(above if helps else set(), lost if hopeless else set())
        relieved = workers > len(held) or any(helping for _, _, helping in held)
        self._pause(mine > most and (self._hopes(relieved) or relieved), count + STEP)
        if mine <= most:
            self._hope = 0.0

    def _hopes(self, relieved: bool) -> bool:
        """Whether somebody may still come to help; asked in vain, not again until help came or is not needed."""
        now = monotonic()
        if relieved or not self._hope:
            self._hope = now + HOPE
        return now < self._hope

    def _hopeless(self, lost: bool) -> bool:
        """Whether somebody has been missing for so long that nobody waits for a successor."""
        now = monotonic()
        if not lost:
            self._complete = now
        return now - self._complete > PATIENCE

    def _held(self) -> list[tuple[int, int, int]]:
        """Slot, elders and willingness to help of every worker that accepts and is alive."""
        now = monotonic() * 1000
        cells = (Cell.SLOT, Cell.ELDERS, Cell.HELPS, Cell.STATE, Cell.BEAT)
        rows = zip(*(self._counters.column(cell, self._rows) for cell in cells), strict=True)
        return [
            (slot, elders, helps)
            for slot, elders, helps, stage, beat in rows
            if slot and stage == Stage.ACCEPTING and now - beat < FRESH
        ]

    def _help(self, slots: set[int], lost: set[int]) -> None:
        if slots:
            self._after = AFTER
        self._row[Cell.HELPS] = bool(slots)
        for slot, acceptors in self._neighbours.items():
            for acceptor in acceptors:
                if slot in slots or slot in lost:
                    acceptor.start()
                elif not self._after:
                    acceptor.stop()

    def _pause(self, wish: bool, most: int) -> None:
        self.paused = wish
        for acceptor in self._every:
            acceptor.maximum = min(most, self._limit)
        for acceptor in self._own:
            acceptor.stop() if wish else acceptor.start()

    def end(self) -> list[Acceptor]:
        """At a drain: help no more; the others' sockets are handed back, for the caller to close."""
        self._row[Cell.HELPS] = 0
        held = [acceptor for acceptors in self._neighbours.values() for acceptor in acceptors]
        for acceptor in held:
            acceptor.stop()
        self._neighbours = {}
        return held
