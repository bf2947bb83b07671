"""The children: which states a worker goes through, and what its exit status says.

STARTING ──ready──> READY ──drain──> DRAINING ──died──> GONE
    └──────────────drain────────────────┘
Every state but GONE ends in GONE by ``died``; what that means depends on the state in which it happened:
from STARTING a failed boot, from READY a crash (or a worker that left by itself), from DRAINING what we asked for.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from posix import WNOHANG, waitpid  # not os.waitpid: gevent replaces that name with one that needs a hub
from time import monotonic
from typing import Any

from gkore.master.deaths import collected
from gkore.master.relay import Line
from gkore.protocol.journal import Journal
from gkore.protocol.lastwords import LastWords
from gkore.protocol.latency import Latency
from gkore.protocol.slot import Exit

MEASURE_TIME = 5.0
ABORT_TIME = 1.0
"""Seconds between SIGABRT and SIGKILL."""
PLAIN = ("pid", "slot", "generation", "row", "deadline", "killed", "aborted", "accepts", "worn", "born", "warned")


class State(Enum):
    """Where a worker is in its life."""

    STARTING = auto()
    """Forked; its hooks run, it accepts nothing yet."""
    READY = auto()
    DRAINING = auto()
    """It was told to finish what is in flight and to leave."""
    GONE = auto()


class Event(Enum):
    """What moves a worker on."""

    READY = auto()
    DRAIN = auto()
    DIED = auto()


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.STARTING, Event.READY): State.READY,
    (State.STARTING, Event.DRAIN): State.DRAINING,
    (State.STARTING, Event.DIED): State.GONE,
    (State.READY, Event.READY): State.READY,
    (State.READY, Event.DRAIN): State.DRAINING,
    (State.READY, Event.DIED): State.GONE,
    # The order to drain and the word "ready" may cross each other on the bus.
    (State.DRAINING, Event.READY): State.DRAINING,
    (State.DRAINING, Event.DRAIN): State.DRAINING,
    (State.DRAINING, Event.DIED): State.GONE,
}


@dataclass(slots=True, eq=False)
class Child:
    """One worker process, as the master sees it."""

    pid: int
    slot: int
    covers: frozenset[int]
    """The slots whose sockets it was handed."""
    generation: int
    """Which reload it belongs to; a child of an older one is renewed."""
    row: int
    line: Line
    journal: Journal | None = None
    """Lines of access logs that it has not written, when it is gone."""
    latency: Latency | None = None
    words: LastWords | None = None
    """What it said when it crashed."""
    state: State = State.STARTING
    deadline: float = float("inf")
    """CLOCK_MONOTONIC seconds after which it is killed."""
    killed: str = ""
    """Why the master killed it, when it did."""
    aborted: bool = False
    accepts: bool = False
    """It is READY and has not said yet that it accepts no more: while it drains a client may still reach it."""
    worn: bool = False
    """It asked for a successor."""
    born: float = field(default_factory=monotonic)
    """CLOCK_MONOTONIC seconds."""
    private: int = 0
    measured: float = float("-inf")
    warned: float = 0.0
    """The beat (milliseconds) after which it was last found blocked."""

    def __str__(self) -> str:
        return f"worker {self.slot} (pid {self.pid})"

    @property
    def serves(self) -> bool:
        """Whether it accepts connections, or is about to."""
        return self.state in (State.STARTING, State.READY)

    def private_memory(self) -> int:
        """Bytes that are this worker's alone, at most MEASURE_TIME ago; 0 where /proc does not tell (another user's).

        Its resident memory counts what it shares with the master and the other workers, too. The kernel goes through
        all pages for it, about 6 ms a gigabyte.
        """
        now = monotonic()
        if now - self.measured >= MEASURE_TIME:
            self.measured, self.private = now, private_memory(self.pid)
        return self.private

    def advance(self, event: Event) -> State:
        """Move on by the table; the state before is returned. KeyError when that can't happen: a bug of ours."""
        before = self.state
        self.state = TRANSITIONS[before, event]
        return before

    def bequeath(self) -> dict[str, Any]:
        """The child as plain data, for the next program of the master."""
        plain = {name: getattr(self, name) for name in PLAIN}
        ours = {"state": self.state.name, "line": self.line.bequeath(), "covers": sorted(self.covers)}
        shared = {"journal": self.journal, "latency": self.latency, "words": self.words}
        return {**plain, **ours, **{name: one and one.bequeath() for name, one in shared.items()}}

    @classmethod
    def inherit(cls, entry: dict[str, Any]) -> Child:
        """The child that ``bequeath`` gave."""
        plain = {name: entry[name] for name in PLAIN}
        line = Line.inherit(entry["line"], entry["slot"])
        journal = Journal.inherit(entry["journal"]) if entry.get("journal") else None
        latency = Latency.inherit(entry["latency"]) if entry.get("latency") else None
        words = LastWords.inherit(entry["words"]) if entry.get("words") else None
        covers, state = frozenset(entry["covers"]), State[entry["state"]]
        return cls(covers=covers, state=state, line=line, journal=journal, latency=latency, words=words, **plain)

    def kill(self, why: str) -> None:
        """End it now; the first reason is kept for the log."""
        self.killed = self.killed or why
        self.signal(signal.SIGKILL)

    def abort(self, why: str) -> None:
        """End it with a trace of its stack in the log (SIGABRT); ABORT_TIME later by force."""
        self.killed = self.killed or why
        self.deadline = min(self.deadline, monotonic() + ABORT_TIME)
        self.aborted = True
        self.signal(signal.SIGABRT)

    def overdue(self, boot_time: float, drain_time: float) -> None:
        """Its deadline has passed."""
        if self.aborted:
            self.aborted = False
            self.signal(signal.SIGKILL)
        elif not self.killed and self.state is State.STARTING:
            self.deadline = float("inf")
            self.abort(f"it was not ready within {boot_time:g} s (worker_boot_time)")
        elif not self.killed:
            self.kill(f"it did not finish within {drain_time:g} s (worker_drain_time)")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; the pid is still its own, because the master has not reaped it."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass  # user code in the parent waited for "any child" and got ours


def private_memory(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            fields = [line.split() for line in file]
    except OSError:
        return 0
    return 1024 * sum(int(field[1]) for field in fields if field[0].startswith(b"Private_"))


def reap(known: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Those of the known children that ended, as (pid, wait status).

    Only these are waited for, so that a child of the user's own code is left to that code; PID 1 of a container
    inherits the orphans of all others and must collect strangers too, which are not reported.
    """
    if os.getpid() == 1:
        known = set(known)
        for pid, status in _reap_all():
            if pid in known:
                yield pid, status
            else:
                collected(pid, status)
        return
    for pid in known:
        try:
            ended, status = waitpid(pid, WNOHANG)
        except ChildProcessError:  # user code in the parent waited for "any child" and got ours
            ended, status = pid, 0
        if ended:
            yield ended, status


def _reap_all() -> Iterator[tuple[int, int]]:
    while True:
        try:
            pid, status = waitpid(-1, WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, status


WORDS = {
    Exit.OK: "left by itself",
    Exit.FATAL: "ended with status 1 (kore.fatal, or an exception that nobody caught)",
    Exit.START: "ended with status 3 (the application or the machine refused)",
    Exit.BOOT: "ended with status 4 (its set-up failed)",
    Exit.FATALX: "called kore.fatalx",
}


HINTS: dict[int, str] = {
    signal.SIGKILL: " (out of memory?)",
    signal.SIGSYS: " (a system call that the sandbox forbids: see seccomp; the kernel's log has its number)",
}


def describe(child: Child, status: int) -> str:
    """What happened to the child, from its wait status, in words."""
    if child.killed:
        return f"was killed: {child.killed}"
    return died_of(status)


def died_of(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        hint = HINTS.get(number, "")
        core = ", core dumped" if os.WCOREDUMP(status) else ""
        return f"was killed by {_signal_name(number)}{hint}{core}"
    code = os.waitstatus_to_exitcode(status)
    return WORDS.get(code, f"ended with status {code}")  # type: ignore[call-overload, no-any-return]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
