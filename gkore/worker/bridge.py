"""Await is a greenlet switch: coroutines without an event loop of their own.

Rules:
- Every handler, task and timer runs on a greenlet of its own, a ``Task``. An awaitable of gkore does its waiting inside
  the coroutine's step, by switching to the hub, so ``coroutine.send(None)`` runs a coroutine to its end and nothing is
  ever yielded. If something is yielded, the coroutine awaited a stranger (asyncio): it gets a TypeError that names it.
- Every wait of gkore's own passes through ``wait``: it notes what the task waits for, bounds the time, and leaves the
  watchers closed however it ends. Whoever must end a task early throws into its greenlet, and the wait unwinds.
- Tasks are kept and used again: a parked greenlet costs no more than its place in a list, and switching into one whose
  stack is warm costs less than making one.
- What a coroutine still holds when it ends (a lock that it acquired and never released) is released for it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterator
from functools import partial
from itertools import count
from typing import Any, ClassVar

from gevent import get_hub
from greenlet import GreenletExit, getcurrent, greenlet

LATE = "timeout before operation completed"
ON_HUB = "a callback of the hub can't wait; start a task with kore.task_create"

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

    def __init__(self, milliseconds: float) -> None:
        self._milliseconds = milliseconds

    def wait(self) -> None:
        if self._milliseconds <= 0:
            yield_turn(self)
            return
        timer = get_hub().loop.timer(self._milliseconds / 1000.0)
        # update: else the time that the task has run since the loop last looked at the clock counts as waited already
        wait(self, partial(timer.start, update=True), timer.close)

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
