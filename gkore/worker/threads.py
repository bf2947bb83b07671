"""``kore.thread``: blocking C code on native threads, so that the hub goes on meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from gevent.threadpool import ThreadPool

from gkore.worker.waits import Awaitable, Waiter

THREADS = 10
"""At most so many at once, in a worker: the ones of gevent's own pool are left to its resolver."""

_pool: list[ThreadPool] = []


class Thread(Awaitable):
    """A call that runs on a native thread since it was made; await it for its result (``kore.thread``)."""

    __slots__ = ("_function", "_outcome", "_waiters")

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        if not callable(function):
            raise TypeError(f"kore.thread runs a function, not {function!r}")
        if not _pool:
            _pool.append(ThreadPool(THREADS))
        self._function = function
        self._outcome: tuple[Any, BaseException | None] | None = None
        self._waiters: list[Waiter] = []
        _pool[0].spawn(copy_context().run, _call, function, arguments).rawlink(self._ended)

    def _ended(self, result: Any) -> None:
        self._outcome = result.value
        for waiter in self._waiters:
            waiter.wake()

    def wait(self) -> Any:
        """The result, or what the call raised. Who is ended while he waits leaves the thread to its end."""
        if self._outcome is None:
            waiter = Waiter()
            self._waiters.append(waiter)
            try:
                waiter.wait(self)
            finally:
                self._waiters.remove(waiter)
        assert self._outcome is not None
        result, failure = self._outcome
        if failure is not None:
            raise failure
        return result

    def __str__(self) -> str:
        return f"thread {getattr(self._function, '__qualname__', self._function)}"


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
    """On the thread: an exception is handed over as a value, or gevent would report it, too."""
    try:
        return function(*arguments), None
    except BaseException as failure:
        return None, failure
