"""``kore.aio``: an asyncio loop beside the hub, for libraries that know no other.

It runs on a native thread of the worker, made when it is first needed. The thread has a hub of its own, for the patched
standard library that asyncio is built on; nothing but whole coroutines and their results passes between the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from gevent import get_hub
from gevent.monkey import get_original
from gevent.threadpool import ThreadPool

from gkore.worker.waits import Awaitable, Waiter

EXECUTOR_THREADS = 8
"""Native threads for ``run_in_executor`` and asyncio's name look-ups."""

_loops: list[asyncio.AbstractEventLoop] = []
_starting: list[Waiter] = []


class Aio(Awaitable):
    """A coroutine for asyncio, run when it is awaited; who is ended while he waits cancels it (``kore.aio``)."""

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        if not isinstance(coroutine, Coroutine):
            raise TypeError(f"kore.aio runs a coroutine, not {coroutine!r}")
        self._coroutine = coroutine

    def wait(self) -> Any:
        loop = running_loop()
        run_on_hub = get_hub().loop.run_callback_threadsafe
        waiter = Waiter()
        tasks: list[asyncio.Task[Any]] = []
        context = copy_context()

        def start() -> None:
            task = loop.create_task(self._coroutine, context=context)
            tasks.append(task)
            task.add_done_callback(lambda task: run_on_hub(waiter.wake, task))

        def cancel() -> None:
            for task in tasks:
                task.cancel()

        loop.call_soon_threadsafe(start)
        try:
            task = waiter.wait(self)
        except BaseException:
            loop.call_soon_threadsafe(cancel)
            raise
        return task.result()

    def __str__(self) -> str:
        return f"asyncio, {getattr(self._coroutine, '__qualname__', self._coroutine)}"


def running_loop() -> asyncio.AbstractEventLoop:
    """This worker's asyncio loop, started if need be."""
    if _loops:
        return _loops[0]
    waiter = Waiter()
    _starting.append(waiter)
    if len(_starting) == 1:
        get_original("_thread", "start_new_thread")(_run, (get_hub().loop.run_callback_threadsafe,))
    waiter.wait("asyncio's start")
    return _loops[0]


def _run(run_on_hub: Any) -> None:
    """On the thread, for ever."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(Executor())
    loop.call_soon(run_on_hub, _started, loop)
    loop.run_forever()


class Executor(ThreadPoolExecutor):
    """``run_in_executor`` on native threads: the patched standard's would be greenlets that nobody can join at exit."""

    def __init__(self) -> None:
        super().__init__(1)
        self._native = ThreadPool(EXECUTOR_THREADS)

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function(*arguments, **named)
            except BaseException as failure:
                future.set_exception(failure)
            else:
                future.set_result(result)

        self._native.spawn(work)
        return future


def _started(loop: asyncio.AbstractEventLoop) -> None:
    _loops.append(loop)
    for waiter in _starting:
        waiter.wake()
    _starting.clear()
