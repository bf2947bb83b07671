"""Waiting: what is awaited, and how a task waits for it.

Every wait of gkore's own passes through ``wait``: it notes what the task waits for, bounds the time, and leaves the
watchers closed however it ends. Whoever must end a task early throws into its greenlet, and the wait unwinds.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, Final

from gevent import get_hub
from greenlet import getcurrent

from gkore.compiled import mypyc_attr
from gkore.worker.bridge import Task

LATE: Final = "timeout before operation completed"
ON_HUB: Final = "a callback of the hub can't wait; start a task with kore.task_create"


@mypyc_attr(allow_interpreted_subclasses=True)
class Awaitable:
    """An object that waits when it is awaited: subclasses say how in ``wait`` and what it is in ``__str__``."""

    __slots__ = ()

    def wait(self) -> Any:
        raise NotImplementedError

    def __await__(self) -> Generator[Any, Any, Any]:
        return self  # type: ignore[return-value]  # an iterator does; the type that checkers expect is this one

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        raise StopIteration(self.wait())


def wait(
    what: object,
    start: Callable[[Callable[[], Any]], object],
    stop: Callable[[], object],
    seconds: float | None = None,
) -> None:
    """Suspend the running task until the callback handed to ``start`` is called from the hub.

    ``stop`` undoes ``start`` and is called however the wait ends: woken, timed out, killed. TimeoutError after
    ``seconds``. RuntimeError on the hub itself, where nothing may wait.
    """
    if seconds is not None:
        _wait_at_most(seconds, what, start, stop)
        return
    hub = get_hub()
    task = getcurrent()
    if task is hub:
        raise RuntimeError(ON_HUB)
    is_task = task.__class__ is Task
    try:
        if is_task:
            task.waits_for = what  # type: ignore[attr-defined]
        start(task.switch)
        hub.switch()
    finally:
        stop()
        if is_task:
            task.waits_for = None  # type: ignore[attr-defined]


def _wait_at_most(
    seconds: float, what: object, start: Callable[[Callable[[], Any]], object], stop: Callable[[], object]
) -> None:
    timer = get_hub().loop.timer(max(0.0, seconds))
    timer.start(getcurrent().throw, TimeoutError(LATE), update=True)
    try:
        wait(what, start, stop)
    finally:
        timer.close()


def limit(milliseconds: float | None) -> float | None:
    """A timeout of Kore's in seconds; None and, as in Kore, a negative one mean that there is none."""
    return None if milliseconds is None or milliseconds < 0 else milliseconds / 1000.0


class Waiter:
    """One task's place in a line: woken at the next turn of the loop, once."""

    __slots__ = ("_pending", "_switch", "value", "woken")

    def __init__(self) -> None:
        self.woken = False
        self.value: Any = None
        self._switch: Callable[[], Any] | None = None
        self._pending: Any = None

    def wait(self, what: object, seconds: float | None = None) -> Any:
        """Suspend until ``wake``, and return what it was given. TimeoutError after ``seconds``."""
        wait(what, self._start, self._stop, seconds)
        return self.value

    def wake(self, value: Any = None) -> None:
        """Let the task go on; a second call does nothing, nor does one after its wait. May come before ``wait``."""
        if not self.woken:
            self.woken = True
            self.value = value
            if self._switch is not None:
                self._pending = get_hub().loop.run_callback(self._switch)

    def _start(self, switch: Callable[[], Any]) -> None:
        self._switch = switch
        if self.woken:
            self._pending = get_hub().loop.run_callback(switch)

    def _stop(self) -> None:
        self._switch = None
        if self._pending is not None:
            self._pending.stop()


def yield_turn(what: object) -> None:
    """Let the others run once: ``wait`` for the next turn of the loop, in half the time."""
    hub = get_hub()
    task = getcurrent()
    if task is hub:
        raise RuntimeError(ON_HUB)
    callback = hub.loop.run_callback(task.switch)
    task.waits_for = what  # type: ignore[attr-defined]
    try:
        hub.switch()
    except BaseException:
        callback.stop()
        raise
    finally:
        task.waits_for = None  # type: ignore[attr-defined]


class Done(Awaitable):
    """What is over when it is returned, and may be awaited all the same."""

    __slots__ = ()

    def wait(self) -> None:
        return None


DONE = Done()


def given(value: Any) -> Generator[Any, Any, Any]:
    """``__await__`` of a result that is there already."""
    yield from ()
    return value


class Suspend(Awaitable):
    """``kore.suspend(milliseconds)``."""

    __slots__ = ("_milliseconds",)

    def __init__(self, milliseconds: Any) -> None:
        self._milliseconds = milliseconds  # a number, but no float to mypyc, which would show 2 as 2.0

    def wait(self) -> None:
        if self._milliseconds <= 0:
            yield_turn(self)
            return
        timer = get_hub().loop.timer(self._milliseconds / 1000.0)
        # update: else the time that the task has run since the loop last looked at the clock counts as waited already
        wait(self, partial(timer.start, update=True), timer.close)

    def __str__(self) -> str:
        return f"suspend({self._milliseconds})"
