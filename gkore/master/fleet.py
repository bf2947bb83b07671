"""The fleet: how many workers there should be, and what to do when that is not so.

``tick`` compares what is wanted with what is there and does the difference; signals, deaths and words from workers only
change one of the two. That is why start, crash, reload and resize need no code of their own:

- A seat (a slot's place in the fleet) wants one worker of the current generation whose sockets cover what the seat must
  serve. An empty seat gets one at once, unless it backs off.
- A seat whose worker is out of date (an older generation after SIGHUP, too few sockets after SIGTTOU) gets a successor
  beside it, one seat at a time; when the successor is READY the older one drains. Nobody stops accepting before
  somebody else accepts on the same socket.
- Workers beyond the wanted number drain when all slots' sockets are served without them.

Everything that must survive an ``exec`` of a new gkore is plain data here: pids, slots, generations, descriptors.
"""

from __future__ import annotations

import os
import signal
from time import monotonic
from typing import TYPE_CHECKING

from gkore import log
from gkore.conf.site import Site
from gkore.errors import ProtocolError, StartError
from gkore.log import counted
from gkore.master import notify
from gkore.master.address import advice
from gkore.master.birth import RunWorker
from gkore.master.certificates import Certificates
from gkore.master.children import Child, Event, State, describe, reap
from gkore.master.keymgr import Keymgr
from gkore.master.listeners import Listeners
from gkore.master.nursery import Nursery
from gkore.master.privileges import Privileges
from gkore.master.seats import WORKERS_MAX, Seat, covers
from gkore.protocol.bus import EVERYBODY, MASTER, Envelope, Kind, reason
from gkore.protocol.slot import Exit

if TYPE_CHECKING:
    from gkore.conf.application import Application

TEARDOWN_TIME = 1.0
"""Seconds beyond ``worker_drain_time``, in which a worker cuts off what is left and runs its teardown hooks."""
EXTENSION = 5.0
"""Seconds beyond both, until systemd may lose its patience."""
BOOTS_MAX = 3
"""Failed boots in a row after which the first start, or a reload, is given up."""


class Fleet:
    """All workers of one server."""

    def __init__(
        self,
        application: Application,
        run_worker: RunWorker,
        listeners: Listeners,
        privileges: Privileges,
        keymgr: Keymgr | None = None,
    ) -> None:
        settings = application.settings
        self.application = application
        self.listeners = listeners
        self.keymgr = keymgr or Keymgr(Site(), None)
        self.nursery = Nursery(application, run_worker, listeners, privileges, self.keymgr)
        self.drain_time: float = settings.worker_drain_time
        self.boot_time: float = settings.worker_boot_time
        self.terminate = settings.worker_death_policy == "terminate"
        self.wanted: int = settings.workers
        self.seats = {number: Seat() for number in range(1, max(self.wanted, listeners.slots) + 1)}
        self.children: dict[int, Child] = {}
        self.generation = 1
        self.settled = False
        """Whether everything that is wanted is there, since the last change of what is wanted."""
        self.started = False
        """Whether it was settled once."""
        self.held = False
        """Nothing is forked and nobody drained: a reload failed after the point of no return."""
        self.restarts = 0
        """Workers that were replaced because they died."""
        self.certificates = Certificates()
        self.kept = ""
        """Why the workers of before stay, although others were wanted: those do not start."""
        self.why = ""
        """What the last worker said that could not start."""
        self.status: int | None = None
        """The exit status of the server, once it is stopping."""

    # -- what is wanted ------------------------------------------------------------------------------------------------

    def renew(self) -> None:
        """Replace every worker, one after the other, each when its successor is READY."""
        self.generation += 1
        self._unsettle()

    def grow(self) -> None:
        """One worker more, with sockets of its own; StartError when they can't be made."""
        if self.wanted == WORKERS_MAX:
            raise StartError(f"there are {WORKERS_MAX} workers already")
        if self.held:
            raise StartError("the last reload failed half way: mend what it said, and reload")
        number = self.wanted + 1
        self.seats.setdefault(number, Seat())
        self.listeners.widen(number)
        self.wanted = number
        self._unsettle()

    def shrink(self) -> None:
        """One worker less; its slot's sockets are served by those that stay. StartError when nobody would stay."""
        staying = [n for n in range(1, self.wanted) if n not in self.listeners.mute]
        if not staying:
            raise StartError("the last worker that accepts connections stays")
        self.wanted -= 1
        self._unsettle()

    def stop(self, status: int, why: str, reason: bytes = b"stop") -> None:
        """Drain all workers; asked again while that goes on: kill them. The first status stays."""
        if self.status is not None:
            self.kill(f"{why} while the server was stopping")
            return
        self.status = status
        notify.stopping(f"{why}: finishing requests")
        notify.extend(self.drain_time + TEARDOWN_TIME + EXTENSION)
        workers = f"{counted(len(self.children), 'worker')} to finish requests"
        log.notice(f"{why}: stopping, {self.drain_time:g} s for {workers}")
        for child in self.children.values():
            self._drain(child, reason)
        self.listeners.close()

    def kill(self, why: str) -> None:
        for child in self.children.values():
            child.kill(why)

    # -- what is there -------------------------------------------------------------------------------------------------

    def listen(self, child: Child) -> bool:
        """Act on what a worker says, and tell whether there may be more; one that makes no sense is killed."""
        try:
            envelopes = child.line.read()
            for envelope in envelopes or ():
                self._heard(child, envelope)
        except ProtocolError as failure:
            log.error(f"{child} is killed and replaced: what it sent to the master is no message ({failure})")
            child.line.open = False
            child.kill("it sent garbage on the bus")
            return False
        return envelopes is not None

    def reap(self) -> None:
        """Find out who ended, and why; ``tick`` fills the empty seats."""
        for pid, status in list(reap(tuple(self.children))):
            child = self.children[pid]
            while self.listen(child):
                pass  # its last words may be READY or kore.shutdown, and change what its death means
            self._died(self.children.pop(pid), status)
        if not self.held and all(child.generation == self.generation for child in self.children.values()):
            self.listeners.drop_orphans()

    def tick(self) -> None:
        """Do what is missing between what is wanted and what is there."""
        now = monotonic()
        self.keymgr.tick(lambda: self.nursery.strange(self.children.values()))
        if self.status is None and not self.held:
            for number in range(1, self.wanted + 1):
                self._fill(number, now)
            self._retire()
            self.settled = self.settled or self._complete()
        for child in self.children.values():
            if now >= child.deadline:
                child.overdue(self.boot_time, self.drain_time)

    def next_deadline(self) -> float:
        """CLOCK_MONOTONIC seconds at which ``tick`` has something to do that no event announces."""
        times = [child.deadline for child in self.children.values() if child.aborted or not child.killed]
        times.append(self.keymgr.due())
        if self.status is None:
            now = monotonic()
            times += [seat.due for seat in self.seats.values() if seat.due > now]
        return min(times, default=float("inf"))

    def refuse(self, why: str) -> None:
        """Newer code is not served: with ``deployment dev`` the workers show browsers why."""
        self.application.refused = why
        for child in self.children.values():
            if child.state is State.READY:
                child.line.send(Envelope(Kind.REFUSED, MASTER, child.slot, reason(why)))

    def signal(self, number: signal.Signals) -> None:
        for child in self.children.values():
            child.signal(number)

    # -- the difference ------------------------------------------------------------------------------------------------

    def _in_seat(self, number: int) -> list[Child]:
        return [child for child in self.children.values() if child.slot == number and child.serves]

    def _needs(self, number: int) -> frozenset[int]:
        return covers(number, self.wanted, len(self.seats), self.listeners.mute)

    def _fits(self, child: Child) -> bool:
        return child.generation == self.generation and not child.worn and child.covers >= self._needs(child.slot)

    def _fill(self, number: int, now: float) -> None:
        there = self._in_seat(number)
        seat = self.seats[number]
        if any(self._fits(child) for child in there) or now < seat.due:
            return
        if there and any(other.failures for other in self.seats.values() if other is not seat):
            return  # it would fail likewise
        if there and any(c.state is State.STARTING and self._fits(c) for c in self.children.values()):
            return  # one successor at a time: a reload must not double the memory of the whole fleet
        self._fork(number)

    def _retire(self) -> None:
        surplus = [child for child in self.children.values() if child.slot > self.wanted and child.serves]
        if not surplus:
            return
        ready = [c for c in self.children.values() if c.state is State.READY and c.slot <= self.wanted]
        served: set[int] = set().union(*(child.covers for child in ready))
        if served >= {number for number in self.seats if number not in self.listeners.mute}:
            for child in surplus:
                self._drain(child, b"stop")

    def _complete(self) -> bool:
        ready = {c.slot for c in self.children.values() if c.state is State.READY and self._fits(c)}
        serving = {c.slot for c in self.children.values() if c.serves}
        leaving = any(c.accepts and c.state is State.DRAINING for c in self.children.values())
        return ready == serving == set(range(1, self.wanted + 1)) and not leaving

    def _unsettle(self) -> None:
        self.settled, self.kept = False, ""
        for seat in self.seats.values():
            seat.forgive()

    def _fork(self, number: int) -> None:
        try:
            child = self.nursery.fork(number, self._needs(number), self.generation, self.children.values())
        except RuntimeError:  # reloads come faster than their drains end
            return
        except OSError as failure:  # EAGAIN, ENOMEM: no process to be had right now
            self._failed(self.seats[number], f"worker {number} can't be forked: {advice(failure)}")
            return
        child.deadline = monotonic() + self.boot_time
        self.children[child.pid] = child

    def _drain(self, child: Child, why: bytes) -> None:
        """Tell the child to leave, and why (``protocol.bus.Kind.DRAIN``): by an envelope, which can't be one too many.

        A terminal sends SIGINT to the whole group and systemd may send SIGTERM to all: to a worker a signal from us
        would then be the second, which means "now". One that is still starting does not read the bus yet.
        """
        if child.state is State.DRAINING:
            return
        before = child.advance(Event.DRAIN)
        child.deadline = monotonic() + self.drain_time + TEARDOWN_TIME
        if before is State.STARTING:
            child.signal(signal.SIGTERM)
        else:
            child.line.send(Envelope(Kind.DRAIN, MASTER, child.slot, why))

    # -- words and deaths ----------------------------------------------------------------------------------------------

    def _heard(self, child: Child, envelope: Envelope) -> None:
        if envelope.destination != MASTER:
            self._relay(envelope)
        elif envelope.kind == Kind.READY:
            self._ready(child)
        elif envelope.kind == Kind.DRAIN:
            child.accepts = False
        elif envelope.kind == Kind.WORN:
            child.worn = True
            self.settled = False
            log.info(f"{child} gets a successor: {envelope.payload.decode('utf-8', 'replace')}")
        elif envelope.kind == Kind.REFUSED:
            self.why = envelope.payload.decode("utf-8", "replace")
        elif envelope.kind == Kind.SHUTDOWN and self.status is None:
            self.stop(Exit.OK, f"{child} called kore.shutdown")

    def _relay(self, envelope: Envelope) -> None:
        """To everybody who lives, or to the one worker in a slot: the newest, unless only older ones are left."""
        if envelope.destination == EVERYBODY:
            targets = list(self.children.values())
        else:
            there = [child for child in self.children.values() if child.slot == envelope.destination]
            targets = sorted(there, key=lambda child: (child.serves, child.generation))[-1:]
        for child in targets:
            if not child.line.send(envelope) and child.line.lost == 1:
                log.error(f"{child} does not read its messages, and they are lost: `gkore dump` tells what it does")

    def _ready(self, child: Child) -> None:
        if child.advance(Event.READY) is not State.STARTING or self.status is not None:
            return
        child.accepts, child.deadline = True, float("inf")
        self.seats[child.slot].failures = 0
        log.info(f"{child} is ready")
        for older in self._in_seat(child.slot):
            if older is not child and not self._fits(older):
                self.listeners.drop_orphans()
                self._drain(older, b" ".join((b"reload", *map(b"%d".__mod__, self.listeners.gone))))

    def _died(self, child: Child, status: int) -> None:
        self.nursery.bury(child)
        before = child.advance(Event.DIED)
        what = f"{child} {'has drained' if before is State.DRAINING and status == 0 else describe(child, status)}"
        if self.status is not None or before is State.DRAINING:
            (log.notice if child.killed or os.WIFSIGNALED(status) else log.info)(what)
        elif os.WIFEXITED(status) and os.WEXITSTATUS(status) == Exit.FATALX:
            self.stop(Exit.FATAL, what)
        elif before is State.STARTING:
            self._failed(self.seats[child.slot], what if child.killed else f"{what} before it was ready")
        else:
            self._crashed(self.seats[child.slot], status, what)

    def _failed(self, seat: Seat, what: str) -> None:
        """A boot failed: try again, ever more slowly; a first start or a reload is given up after a few."""
        pause = seat.failed(monotonic())
        if seat.failures < BOOTS_MAX or (self.started and self.settled):
            log.error(f"{what}, next try in {pause:g} s")
        elif not self.started:
            log.error(f"{what}, {seat.failures} times in a row: giving up")
            self.stop(Exit.START, "the workers do not start")
        else:
            self._keep_old(what)

    def _keep_old(self, what: str) -> None:
        """The new workers do not start: let the old ones be the current ones again."""
        self.kept = f"{what}, {BOOTS_MAX} times in a row"
        for seat in self.seats.values():
            seat.forgive()
        for child in self.children.values():
            child.generation = self.generation
        self.wanted = max((child.slot for child in self.children.values() if child.serves), default=self.wanted)
        self.settled = True

    def _crashed(self, seat: Seat, status: int, what: str) -> None:
        self.restarts += 1
        pause = seat.crashed(monotonic())
        if self.terminate and status != 0:
            log.error(what)
            self.stop(Exit.FATAL, "a worker died (worker_death_policy terminate)")
            return
        when = f"in {pause:g} s (it crashes in a loop)" if pause else "at once"
        when = "at the next reload that succeeds" if self.held else when
        (log.error if status else log.notice)(f"{what}, replaced {when}")
