"""Await is a greenlet switch: coroutines without an event loop of their own.

Rules:
- Every handler, task and timer runs on a greenlet of its own, a ``Task``. An awaitable of gkore does its waiting inside the
  coroutine's step, by switching to the hub, so ``coroutine.send(None)`` runs a coroutine to its end and nothing is ever
  yielded. If something is yielded, the coroutine awaited a stranger (asyncio): it gets a TypeError that names it.
- Every wait of gkore's own passes through ``wait``: it notes what the task waits for, bounds the time, and leaves the
  watchers closed however it ends. Whoever must end a task early throws into its greenlet, and the wait unwinds.
- Tasks of requests are kept and used again: a parked greenlet costs no more than its place in a list, and switching into
  one whose stack is warm costs less than making one.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from itertools import count
from typing import Any, ClassVar

from gevent import get_hub
from greenlet import GreenletExit, getcurrent, greenlet

_idents = count(1)


class Task(greenlet):
    """A greenlet of gkore's, and what it is doing.

    ``waits_for`` is the awaitable that it is suspended in, ``coroutine`` the outermost coroutine that it runs: None for a
    plain function, which nobody ends early (a client that leaves ends coroutines, as in Kore).
    """

    coroutine: Coroutine[Any, Any, Any] | None = None
    waits_for: object = None
    name: str = ""
    _ident: int = 0

    @property
    def ident(self) -> int:
        """The task's number, given on first use; a task that is used again for another request gets a new one."""
        if not self._ident:
            self._ident = next(_idents)
        return self._ident

    def forget(self) -> None:
        """Become nobody: between two requests."""
        self.coroutine = None
        self.name = ""
        self._ident = 0


class Awaitable:
    """An object that waits when it is awaited: subclasses say how in ``wait`` and what it is in ``__str__``."""

    __slots__ = ()

    def wait(self) -> Any:
        raise NotImplementedError

    def __await__(self) -> Iterator[Any]:
        return self

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        raise StopIteration(self.wait())


def wait(what: object, start: Callable[[Callable[[], Any]], object], stop: Callable[[], object]) -> None:
    """Suspend the running task until the callback handed to ``start`` is called from the hub.

    ``stop`` undoes ``start`` and is called however the wait ends: woken, timed out, killed. RuntimeError on the hub
    itself, where nothing may wait.
    """
    hub = get_hub()
    task = getcurrent()
    if task is hub:
        raise RuntimeError("a callback of the hub can't wait; start a task with kore.task_create")
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


class Suspend(Awaitable):
    """``kore.suspend(milliseconds)``."""

    __slots__ = ("_milliseconds",)

    def __init__(self, milliseconds: float) -> None:
        self._milliseconds = milliseconds

    def wait(self) -> None:
        timer = get_hub().loop.timer(max(0.0, self._milliseconds / 1000.0))
        wait(self, timer.start, timer.close)

    def __str__(self) -> str:
        return f"suspend({self._milliseconds})"


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run ``coroutine`` to its end on the current greenlet and return its result; what it raises is raised.

    TypeError is raised inside the coroutine when it awaits something that is not gkore's.
    """
    task = getcurrent()
    outer: Coroutine[Any, Any, Any] | None = None
    if task.__class__ is Task:
        outer = task.coroutine
        task.coroutine = outer or coroutine
    try:
        stranger = coroutine.send(None)
        while True:
            stranger = coroutine.throw(TypeError(_explain(stranger)))
    except StopIteration as stop:
        return stop.value
    finally:
        if task.__class__ is Task:
            task.coroutine = outer


def _explain(stranger: object) -> str:
    kind = stranger.__class__
    return (
        f"a handler awaited {kind.__module__}.{kind.__qualname__}, which belongs to another event loop: gkore's handlers run "
        "on gevent. Call a blocking library directly (it cooperates), kore.thread(fn, *args) for C code that blocks, "
        "or kore.aio(coroutine) for asyncio-only libraries"
    )


class Pool:
    """The tasks that serve requests: parked when idle, most recently used first, never more than ``limit``."""

    __slots__ = ("_busy", "_idle", "limit", "take")

    IDLE_MAX: ClassVar[int] = 256
    """Parked greenlets kept; a burst's others are let go, with the memory of their stacks."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._idle: list[Task] = []
        self._busy = 0
        self.take = self._idle.pop
        """The warmest idle task; IndexError when there is none: then ``grow``."""

    def grow(self) -> Task | None:
        """A new task, or None when ``limit`` are busy."""
        if self._busy >= self.limit:
            return None
        self._busy += 1
        return Task(self._serve, get_hub())

    @property
    def busy(self) -> int:
        return self._busy - len(self._idle)

    def _serve(self, work: Callable[[], None]) -> None:
        """What a pooled task does: the work it is handed, then wait on the list for more."""
        task: Task = getcurrent()  # type: ignore[assignment]
        hub = task.parent
        assert hub is not None
        idle = self._idle
        switch = greenlet.switch
        try:
            while True:
                work()
                if task._ident or task.name:
                    task.forget()
                if len(idle) >= self.IDLE_MAX:
                    return
                idle.append(task)
                work = switch(hub)
        except GreenletExit:
            pass
        finally:
            self._busy -= 1
