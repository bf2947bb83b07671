"""Tasks, timers, and what is known about coroutines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gkore.api.constants import TIMER_ONESHOT
from gkore.worker import bridge, bus, tasks, traps
from gkore.worker.timers import Timer

pytimer = Timer
"""The type, under the name that Kore's C code gives it."""

_NOTHING = object()


def task_create(method: Any) -> int:
    """Run a coroutine on its own, from the next turn of the loop on; the task's number (Kore 3: None).

    Called in the parent, every worker runs its own copy. What it raises is reported to the tracer. TypeError for a
    function (Kore ends the process); the value of a plain function is taken as done.
    """
    return tasks.create(method)


def task_id() -> int:
    """The number of the running coroutine. RuntimeError "no coroutine active" outside of one (Kore 4.2)."""
    try:
        return bridge.coroutine_task("kore.task_id").ident
    except RuntimeError:
        raise RuntimeError("no coroutine active") from None


def task_kill(ident: int) -> bool:
    """End a coroutine where it waits, by GeneratorExit; False when there is none of that number (Kore 4).

    RuntimeError for the running one.
    """
    return tasks.kill(ident)


def timer(method: Callable[..., Any], delay: float, flags: int = 0, *, data: Any = _NOTHING) -> Timer:
    """Call ``method`` after ``delay`` milliseconds, and every so often unless ``flags`` is ``kore.TIMER_ONESHOT``.

    With ``data`` that is its only argument (Kore 4). RuntimeError for other flags and, as in Kore 4, in the parent.
    """
    if bus.end() is None:
        raise RuntimeError("kore.timer not supported on parent process")
    if flags not in (0, TIMER_ONESHOT):
        raise RuntimeError("invalid flags")
    if not callable(method):
        raise TypeError(f"kore.timer calls a function, not {method!r}")
    if delay < 0:
        raise ValueError("kore.timer: a delay can't be negative")
    return Timer(method, delay, flags == TIMER_ONESHOT, *(() if data is _NOTHING else (data,)))


def coroname(name: str) -> None:
    """Name the running coroutine, for traces. RuntimeError outside of one (Kore 4)."""
    task = bridge.coroutine_task("kore.coroname()")
    task.call(task.ident)
    task.name = name


def corotrace(on: bool) -> None:
    """Log each run, wait and end of coroutines from now on, or no more (Kore 4)."""
    tasks.trace(on)


def sigtrap(signum: int) -> None:
    """Hand a signal to ``koreapp.signal`` or ``kore_worker_signal`` from now on (Kore 4.2).

    Called in the parent, every worker does so. ValueError for one that can't be caught.
    """
    traps.trap(signum)
