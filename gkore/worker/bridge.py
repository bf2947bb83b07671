"""Await is a greenlet switch: coroutines without an event loop of their own.

Rules:
- Every handler, task and timer runs on a greenlet of its own, a ``Task``. An awaitable of gkore does its waiting inside
  the coroutine's step, by switching to the hub, so ``coroutine.send(None)`` runs a coroutine to its end and nothing is
  ever yielded. If something is yielded, the coroutine awaited a stranger (asyncio): it gets a TypeError that names it.
- Whatever waits does so in ``waits``.
- Tasks are kept and used again: a parked greenlet costs no more than its place in a list, and switching into one whose
  stack is warm costs less than making one.
- What a coroutine still holds when it ends (a lock that it acquired and never released) is released for it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, ClassVar

from gevent import get_hub
from greenlet import GreenletExit, getcurrent, greenlet

_idents = count(1)

numbered: dict[int, Task] = {}
"""Tasks that were asked for their number, by it."""


class Task(greenlet):
    """A greenlet of gkore's, and what it is doing.

    ``waits_for`` is the awaitable that it is suspended in, ``coroutine`` the outermost coroutine that it runs: None for
    a plain function, which nobody ends early (a client that leaves ends coroutines, as in Kore).
    """

    __slots__ = ("_ident", "coroutine", "held", "name", "waits_for")

    def __init__(self, run: Callable[[], object]) -> None:
        super().__init__(run)
        self.coroutine: Coroutine[Any, Any, Any] | None = None
        self.waits_for: object = None
        self.name = ""
        self.held: list[Any] | None = None
        """What it must not take along when its coroutine ends: objects with ``abandon(task)``."""
        self._ident = 0

    @property
    def ident(self) -> int:
        """The task's number, given on first use; a task that is used again for another request gets a new one."""
        return self._ident or self.call(next(_idents))

    def call(self, ident: int) -> int:
        """Be known as ``ident`` until ``forget``."""
        self._ident = ident
        numbered[ident] = self
        return ident

    def hold(self, thing: Any) -> None:
        """``thing.abandon(task)`` is called at the end of the coroutine, unless ``held`` has lost it by then."""
        if self.held is None:
            self.held = []
        self.held.append(thing)
        if not self._ident:
            self.call(next(_idents))  # only a task with a number has something to forget

    def forget(self) -> None:
        """Become nobody: at the end of a coroutine, and between two requests."""
        held, self.held = self.held, None
        for thing in held or ():
            thing.abandon(self)
        numbered.pop(self._ident, None)
        self.coroutine = None
        self.name = ""
        self._ident = 0


def next_ident() -> int:
    """A number for a task that has not begun."""
    return next(_idents)


def coroutine_task(what: str) -> Task:
    """The running task. RuntimeError "``what`` only available in coroutines" when it runs no coroutine."""
    task = getcurrent()
    if isinstance(task, Task) and task.coroutine is not None:
        return task
    raise RuntimeError(f"{what} only available in coroutines")


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
        return refuse(coroutine, coroutine.send(None))
    except StopIteration as stop:
        return stop.value
    except RuntimeError as failure:
        advise(failure)
        raise
    finally:
        if task.__class__ is Task:
            task.coroutine = outer
            if outer is None and task._ident:
                task.forget()


def refuse(coroutine: Coroutine[Any, Any, Any], stranger: object) -> Any:
    """Raise TypeError inside ``coroutine``, which awaited ``stranger``, until it ends; its result."""
    try:
        while True:
            stranger = coroutine.throw(TypeError(_explain(stranger)))
    except StopIteration as stop:
        return stop.value


def advise(failure: BaseException) -> None:
    """Add, once, the way out to the message of an asyncio function that found no loop."""
    fresh = isinstance(failure, RuntimeError) and not hasattr(failure, "__notes__")
    if fresh and str(failure) == "no running event loop":
        failure.add_note("gkore runs no asyncio loop in its handlers: kore.aio(coroutine) runs one beside them")


def _explain(stranger: object) -> str:
    kind = stranger.__class__
    return (
        f"a handler awaited {kind.__module__}.{kind.__qualname__}, which belongs to another event loop: gkore's "
        "handlers run on gevent. Call a blocking library directly (it cooperates), kore.thread(fn, *args) for C code "
        "that blocks, or kore.aio(coroutine) for asyncio-only libraries"
    )


class Pool:
    """The tasks that serve requests: parked when idle, most recently used first, never more than ``limit``."""

    __slots__ = ("_busy", "_idle", "_idle_max", "limit", "take")

    IDLE_MAX: ClassVar[int] = 256
    """Parked greenlets kept; a burst's others are let go, with the memory of their stacks."""

    def __init__(self, limit: int, idle_max: int = IDLE_MAX) -> None:
        self.limit = limit
        self._idle_max = idle_max
        self._idle: list[Task] = []
        self._busy = 0
        self.take = self._idle.pop
        """The warmest idle task; IndexError when there is none: then ``grow``."""

    def grow(self) -> Task | None:
        """A new task, or None when ``limit`` are busy."""
        return None if self._busy >= self.limit else self.make()

    def make(self) -> Task:
        """A new task, whatever the limit says."""
        self._busy += 1
        task = Task(self._serve)
        task.switch()  # so that its first work is no argument of its run: greenlet would keep it all the task's life
        task.parent = get_hub()
        return task

    @property
    def busy(self) -> int:
        return self._busy - len(self._idle)

    def _serve(self) -> None:
        """What a pooled task does: the work it is handed, then wait on the list for more."""
        task: Task = getcurrent()  # type: ignore[assignment]
        idle = self._idle
        switch = greenlet.switch
        assert task.parent is not None
        try:
            work: Callable[[], None] = switch(task.parent)
            hub = get_hub()
            while True:
                work()
                del work  # a parked task must not keep what it served
                if task._ident:
                    task.forget()
                if len(idle) >= self._idle_max:
                    return
                idle.append(task)
                work = switch(hub)
        except GreenletExit:
            pass
        finally:
            self._busy -= 1
