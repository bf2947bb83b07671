"""The nursery: what a worker is given at its birth, and what is taken back from it after its death.

Its ends of the bus and of the key manager's channel, a row of counters, a journal of access logs, a histogram, room for
its last words: all are made by the master before the fork, because a worker that has shed its privileges could not, and
because what a dead worker has counted and not yet written must be readable afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from gkore import log
from gkore.master.birth import Closable, RunWorker, bear
from gkore.master.children import Child
from gkore.master.latencies import Latencies
from gkore.master.provisions import new_journal, write_rest
from gkore.master.relay import Line, pair
from gkore.master.seats import WORKERS_MAX
from gkore.protocol.counters import CELLS, Cell, Counters
from gkore.protocol.lastwords import LastWords
from gkore.protocol.slot import Slot

if TYPE_CHECKING:
    from socket import socket

    from gkore.conf.application import Application
    from gkore.master.keymgr import Keymgr
    from gkore.master.listeners import Listeners
    from gkore.master.privileges import Privileges


class Nursery:
    """Where one server's workers are forked, with all that the master shares with them."""

    def __init__(
        self,
        application: Application,
        run_worker: RunWorker,
        listeners: Listeners,
        privileges: Privileges,
        keymgr: Keymgr,
    ) -> None:
        self.counters = Counters(2 * WORKERS_MAX)
        self.latencies = Latencies(application)
        self.past = [0] * CELLS
        """The counts of workers that have left."""
        self.challenges: socket | None = None
        """What every worker hands a CA's connections to (see ``acme``)."""
        self.private: Callable[[], Iterable[Closable]] = tuple
        """The master's own descriptors, closed in every child."""
        self._application = application
        self._run_worker = run_worker
        self._listeners = listeners
        self._privileges = privileges
        self._keymgr = keymgr

    def fork(self, number: int, needs: frozenset[int], generation: int, living: Iterable[Child]) -> Child:
        """A worker in slot ``number`` with the sockets of the slots ``needs``, which keeps nothing of the ``living``.

        OSError when no process is to be had right now, RuntimeError when all rows of counters are taken.
        """
        row = self.counters.take(number)
        with ExitStack() as after, ExitStack() as undo:
            undo.callback(self.counters.give_back, row)
            ours, theirs = pair()
            after.callback(theirs.close)
            undo.callback(ours.close)
            slot = Slot(number, self._listeners.of(needs), theirs, self.counters.row(row))
            slot.challenges = self.challenges
            if needs == {number}:  # who serves a slot without a worker must not leave it to others
                slot.fleet, slot.neighbours = self.counters, self._listeners.beside(needs)
            strange: list[Closable] = [ours]
            channel = self._keymgr.channel()
            if channel:
                slot.keys = channel[1]
                after.callback(channel[1].close)
                undo.callback(channel[0].close)
                strange.append(channel[0])
            slot.latency = self.latencies.make()
            undo.callback(self.latencies.end, slot.latency)
            slot.journal = new_journal(self._application.site)
            if slot.journal is not None:
                undo.callback(slot.journal.close)
            slot.words = LastWords()
            undo.callback(slot.words.close)
            strange += self.strange(living, slot)
            pid = bear(self._application, self._run_worker, slot, self._privileges, strange)
            undo.pop_all()
        if channel:
            self._keymgr.keep(pid, channel[0])
        return Child(pid, number, needs, generation, row, Line(ours, number), slot.journal, slot.latency, slot.words)

    def strange(self, living: Iterable[Child], slot: Slot | None = None) -> Iterable[Closable]:
        """What a child must not keep of the master's and of the ``living``: all but the sockets of its slot."""
        groups = (slot.listeners, *slot.neighbours.values()) if slot is not None else ()
        kept = {listener.sock for group in groups for listener in group}
        yield from self._keymgr.sockets()
        yield from (sock for sock in self._listeners.sockets() if sock not in kept)
        for child in living:
            yield child.line.sock
            yield from filter(None, (child.journal, child.words))
        yield from self.private()

    def bury(self, child: Child) -> None:
        """The child has ended: write and count what it left, and take back the rest."""
        child.line.close()
        if child.journal is not None:
            write_rest(child.journal)
        if child.words is not None:
            said = child.words.read()
            child.words.close()
            if said:
                log.error(f"last words of {child}:\n{said}")
        self._keymgr.drop(child.pid)
        self.past[Cell.REQUESTS] += self.counters.row(child.row)[Cell.REQUESTS]
        self.counters.give_back(child.row)
        self.latencies.end(child.latency)
