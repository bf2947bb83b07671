"""What every task of this worker is doing: for SIGUSR2, ``gkore dump`` and the watchdog.

The handler runs between two instructions of whatever runs now, so it reaches code that blocks the hub. Only C code that
does not come back to Python keeps it out: then faulthandler speaks, when the master ends the worker with SIGABRT.
"""

from __future__ import annotations

import faulthandler
import gc
import signal
from collections.abc import Iterator
from time import monotonic
from traceback import StackSummary, walk_stack
from types import FrameType

from gevent import Greenlet, get_hub
from greenlet import getcurrent, greenlet

from gkore import log
from gkore.log import counted
from gkore.protocol.counters import BEAT_TIME, Cell
from gkore.protocol.lastwords import LastWords
from gkore.worker.bridge import Pool, Task

IDLE = Pool._serve.__code__
TASKS_MAX = 500
"""Tasks in one dump."""
LATE = 0.25
"""Seconds beyond a beat after which whatever runs is called blocking."""


def listen(counters: memoryview, warn: int, words: LastWords | None) -> None:
    """Answer SIGUSR2 from now on, and leave ``words`` when the process crashes; ``warn`` is ``worker_block_warn``."""
    least = min(LATE, warn / 1000) if warn else LATE  # the watchdog's signal comes only later than that

    def handler(_: int, frame: FrameType | None) -> None:
        late = monotonic() - counters[Cell.BEAT] / 1000 - BEAT_TIME
        if late > least:
            blocked(late, frame)
        else:
            dump()

    signal.signal(signal.SIGUSR2, handler)
    if words is not None:
        faulthandler.enable(words.descriptor)


def blocked(seconds: float, frame: FrameType | None) -> None:
    """Say which line keeps the hub from its turn."""
    log.error(f"the hub has been blocked for {seconds * 1000:.0f} ms by {name_of(getcurrent())}:")
    log.error(stack(frame))


def dump() -> None:
    """Log every living greenlet, what it waits for, and where."""
    found = list(living())
    first = f", of which the first {TASKS_MAX}" if len(found) > TASKS_MAX else ""
    log.notice(f"{counted(len(found), 'greenlet')}{first}:" if found else "no handler or task is running")
    for one in found[:TASKS_MAX]:
        waits = getattr(one, "waits_for", None)
        log.notice(f"{name_of(one)}{f' waits for {waits}' if waits is not None else ''}:\n{stack(one.gr_frame)}")


def living() -> Iterator[greenlet]:
    """Greenlets that have begun and not ended, but for the hub, the main one and idle tasks of the pool."""
    hub = get_hub()
    for thing in gc.get_objects():
        if isinstance(thing, greenlet) and thing.parent is not None and thing is not hub and thing.gr_frame is not None:
            idle = isinstance(thing, Task) and thing.gr_frame.f_code is IDLE
            if not idle:
                yield thing


def name_of(one: greenlet) -> str:
    """What a log line calls a greenlet."""
    if isinstance(one, Task):
        name = one.name or getattr(one.coroutine, "__qualname__", "") or "a handler"
        return f"task {one.ident} ({name})"
    if isinstance(one, Greenlet):
        return f"greenlet {one.name}"
    return "the hub" if one is get_hub() else "the main greenlet"


def stack(frame: FrameType | None) -> str:
    """The stack that ends in ``frame``, outermost call first."""
    summary = StackSummary.extract(walk_stack(frame), limit=50)
    summary.reverse()
    return "".join(summary.format()).rstrip()
