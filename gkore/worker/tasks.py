"""Coroutines on tasks of their own: ``kore.task_create``, ``kore.gather``, ``kore.task_kill``, ``kore.corotrace``.

Rules:
- What raises in a task goes to the tracer or the log, what raises in a member of gather becomes its result; neither
  travels further.
- Ending a task early is GeneratorExit at the place where it waits, thrown from the hub. The coroutine's ``finally``
  blocks and ``async with`` exits run, and may wait.
- Tasks made before this process is a worker (at import, in ``kore_parent_configure``) are kept, and every worker starts
  its own copies of them once it is configured.
- A coroutine begins with a copy of its maker's context variables (PEP 567), as with asyncio: what traces a request
  finds it in what that starts. No other work on these tasks sees them.
"""

from __future__ import annotations

import atexit
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import copy_context
from functools import partial
from time import monotonic
from types import CoroutineType
from typing import Any

import greenlet
from gevent import get_hub, sleep
from greenlet import getcurrent

from gkore import log
from gkore.worker import bridge, failures, waits
from gkore.worker.bridge import Task
from gkore.worker.waits import Waiter

CROWD = 100_000
"""So many tasks at once are the application's right, and more likely its mistake: one line in the log."""

END_TIME = 0.5
"""Seconds, of the one that the master gives a worker beyond ``worker_drain_time``."""

_pool = bridge.Pool(0, idle_max=1024)
_spawned: deque[Callable[[], None]] = deque()
_early: list[Job] = []
_jobs: dict[int, Job] = {}
_begun = False
_last_early = 0


def busy() -> int:
    """How many of them run or wait now."""
    return _pool.busy


def spawn(work: Callable[[], None]) -> None:
    """Run ``work``, which must not raise, on a task at the next turn of the loop."""
    if not _spawned:
        get_hub().loop.run_callback(_pump)
    _spawned.append(work)


def _pump() -> None:
    """On the hub: tasks, until all work has begun. One that does not wait leaves its task to the next."""
    while _spawned:
        try:
            task = _pool.take()
        except IndexError:
            task = _pool.make()
            if _pool.busy == CROWD:
                log.error(f"{CROWD} tasks are running: does each of them end? `gkore dump` tells what they wait for")
        task.switch(_begin)


def _begin() -> None:
    task: Task = getcurrent()  # type: ignore[assignment]
    while _spawned:
        _spawned.popleft()()
        if task._ident:
            task.forget()  # of a plain function
        task.gr_context = None


Ended = Callable[[Any, BaseException | None], object]


class Job:
    """One coroutine from before its start to its end; ``ended(result, failure)`` is called on its task then.

    The outcome is handed on and not kept: an exception knows its frames, theirs know us, and such a circle would keep
    alive what the coroutine held until the garbage collector comes by.
    """

    __slots__ = ("_context", "_ended", "coroutine", "ident", "over", "task")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], ended: Ended, ident: int = 0) -> None:
        self.coroutine = coroutine
        self.ident = ident
        self.task: Task | None = None
        self.over = False
        self._ended = ended
        self._context = copy_context()

    def start(self) -> None:
        spawn(self._run)

    def _run(self) -> None:
        if self.over:
            return  # killed before it began
        task: Task = getcurrent()  # type: ignore[assignment]
        self.task = task
        task.gr_context = self._context
        if self.ident:
            task.call(self.ident)
        result = failure = None
        task.coroutine = coroutine = self.coroutine
        try:
            result = bridge.refuse(coroutine, coroutine.send(None))
        except StopIteration as stop:
            result = stop.value
        except BaseException as caught:
            bridge.advise(caught)
            failure = caught
        task.coroutine = self.task = None
        self.over = True
        if task._ident:
            task.forget()
        try:
            self._ended(result, failure)
        finally:
            del failure

    def kill(self) -> None:
        """End it: now when it has not begun, else at the next turn of the loop."""
        if self.over:
            return
        if self.task is not None:
            get_hub().loop.run_callback(self._throw)
            return
        self.coroutine.close()
        self.over = True
        self._ended(None, GeneratorExit())

    def _throw(self) -> None:
        if self.task is not None:
            self.task.throw(GeneratorExit)


def as_coroutine(thing: Any) -> Coroutine[Any, Any, Any]:
    """What a task can run. TypeError "not a coroutine" for functions and classes.

    The reference's examples hand over the result of a plain function: such a value is taken as a coroutine that has
    returned it.
    """
    if thing.__class__ is CoroutineType or isinstance(thing, Coroutine):
        return thing
    if isinstance(thing, Awaitable):
        return _awaiting(thing)
    if callable(thing):
        raise TypeError(f"not a coroutine: {thing!r} (call it to get one)")
    return _returning(thing)


async def _awaiting(thing: Awaitable[Any]) -> Any:
    return await thing


async def _returning(value: Any) -> Any:
    return value


# Tasks


def create(thing: Any) -> int:
    """Run a coroutine on a task of its own from the next turn of the loop on; its number."""
    coroutine = as_coroutine(thing)
    ident = bridge.next_ident()
    job = _jobs[ident] = Job(coroutine, partial(_task_ended, ident, coroutine), ident)
    if _begun:
        job.start()
    else:
        _early.append(job)
    return ident


def begin() -> None:
    """This process is a worker, and configured: start what was created before."""
    global _begun, _last_early
    _begun, _last_early = True, bridge.next_ident()
    for job in _early:
        if not job.over:
            job.start()
    _early.clear()


def at_work() -> int:
    """How many tasks a drain waits for: those that serving has made. Those of before mostly go round for ever."""
    return sum(ident > _last_early for ident in _jobs)


def end() -> None:
    """End all tasks where they wait, and give their ``finally`` blocks END_TIME."""
    for job in list(_jobs.values()):
        job.kill()
    deadline = monotonic() + END_TIME
    while _jobs and monotonic() < deadline:
        sleep(0.01)


@atexit.register
def _forget_early() -> None:
    """The parent never runs them: without this Python would complain about each at its end."""
    for job in _early:
        job.coroutine.close()


def _task_ended(ident: int, coroutine: object, result: object, failure: BaseException | None) -> None:
    del _jobs[ident]
    if failure is not None and not isinstance(failure, GeneratorExit):
        failures.report(f"task {ident} ({getattr(coroutine, '__qualname__', coroutine)})", failure)


def kill(ident: int) -> bool:
    """End the coroutine of that number. False when there is none. RuntimeError for the running one."""
    task = bridge.numbered.get(ident)
    if task is getcurrent():
        raise RuntimeError("refusing to kill active coroutine")
    if task is not None and task.coroutine is not None:
        _kill_running(task, ident)
        return True
    job = _jobs.get(ident)
    if job is None or job.over:
        return False
    job.kill()
    return True


def _kill_running(task: Task, ident: int) -> None:
    """Throw from the hub, and let the killer go on when the other has unwound."""

    def throw() -> None:
        if bridge.numbered.get(ident) is task:
            task.throw(GeneratorExit)

    if getcurrent() is get_hub():
        throw()
        return
    waiter = Waiter()
    get_hub().loop.run_callback(throw)
    waiter.wake()
    waiter.wait(f"the end of task {ident}")


# gather


class Results(list[Any]):
    """What ``kore.gather`` returns: a list, there already, that can be awaited."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, Any]:
        return waits.given(self)


class Gathering:
    """Members running, at most ``width`` at a time (a sliding window; Kore starts the next batch when one is done)."""

    def __init__(self, coroutines: list[Coroutine[Any, Any, Any]], width: int) -> None:
        self._jobs = [Job(coroutine, partial(self._member_ended, place)) for place, coroutine in enumerate(coroutines)]
        self._results = Results([None] * len(coroutines))
        self._waiting = iter(self._jobs)
        self._left = len(self._jobs)
        self._width = width or self._left
        self._waiter = Waiter()

    def run(self) -> Results:
        """Wait for all; when the one that waits is killed, so are they."""
        if self._jobs:
            for _ in range(min(self._width, self._left)):
                next(self._waiting).start()
            try:
                self._waiter.wait(self)
            except BaseException:
                self._width = 0
                for job in self._jobs:
                    job.kill()
                raise
            finally:
                self._jobs = []
        return self._results

    def _member_ended(self, place: int, result: Any, failure: BaseException | None) -> None:
        if self._width:  # somebody still waits for it
            self._results[place] = result if failure is None else failure
        self._left -= 1
        if not self._left:
            self._waiter.wake()
        elif self._width:
            following = next(self._waiting, None)
            if following is not None:
                following.start()

    def __str__(self) -> str:
        return f"gather ({self._left} of {len(self._results)} left)"


def gather(things: tuple[Any, ...], concurrency: int) -> Results:
    """The results of ``things`` in order; an exception is a result. RuntimeError outside of coroutines."""
    bridge.coroutine_task("kore.gather")
    return Gathering([as_coroutine(thing) for thing in things], concurrency).run()


# Traces

_traced: dict[Task, int] = {}


def trace(on: bool) -> None:
    """Log each run, wait and end of coroutines from now on, or no more; costs nothing while it is off."""
    greenlet.settrace(_trace if on else None)
    _traced.clear()


def _trace(event: str, pair: tuple[object, object]) -> None:
    origin, target = pair
    if isinstance(origin, Task):
        if origin.coroutine is not None:
            _traced[origin] = origin.ident
            log.info(f"{_spell(origin)} waits for {origin.waits_for or 'something of its own'}")
        elif origin in _traced:
            log.info(f"coroutine {_traced.pop(origin)} ended")
    if isinstance(target, Task) and target.coroutine is not None:
        log.info(f"{_spell(target)} {'runs' if event == 'switch' else 'is ended early'}")


def _spell(task: Task) -> str:
    name = task.name or getattr(task.coroutine, "__qualname__", "")
    return f"coroutine {task.ident} ({name})"
