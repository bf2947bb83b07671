"""``kore.queue``: objects from hand to hand, first in, first out.

A queue binds to no hub: it may be made before fork (each worker then has its own). An object that is pushed while
somebody waits belongs to the one who has waited longest, at once, and nobody can take it from him (Kore loses wake-ups
here). When he is killed before he could take it, the next one gets it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any

from gkore.worker.waits import Awaitable, Waiter

_CLOSED = object()


class Queue:
    """A queue between coroutines (``kore.queue``); ``limit`` bounds its length, 0 does not.

    Ours: ``limit`` and ``close``. Positional arguments are passed over, as in Kore.
    """

    __slots__ = ("_closed", "_items", "_limit", "_poppers", "_pushers")

    def __init__(self, *_: object, limit: int = 0) -> None:
        if limit < 0:
            raise ValueError("kore.queue: a limit can't be negative")
        self._items: deque[Any] = deque()
        self._poppers: OrderedDict[Waiter, None] = OrderedDict()
        self._pushers: OrderedDict[Waiter, Any] = OrderedDict()
        self._limit = limit
        self._closed = False

    def push(self, thing: Any) -> bool:
        """Give ``thing`` to whoever waits first, or keep it; waits for room. RuntimeError when closed."""
        if self._closed:
            raise RuntimeError("queue closed")
        if self._poppers:
            self._poppers.popitem(last=False)[0].wake(thing)
        elif self._limit and len(self._items) >= self._limit:
            self._push_later(thing)
        else:
            self._items.append(thing)
        return True

    def pop(self) -> Pop:
        """Await it to get the next object. RuntimeError when the queue is closed and empty."""
        return Pop(self)

    def popnow(self) -> Any:
        """The next object, or None when there is none."""
        return self._next() if self._items else None

    def close(self) -> bool:
        """Take no more objects; whoever waits is told by a RuntimeError. What is kept can still be popped."""
        self._closed = True
        for waiter in (*self._poppers, *self._pushers):
            waiter.wake(_CLOSED)
        self._poppers.clear()
        self._pushers.clear()
        return True

    def _next(self) -> Any:
        thing = self._items.popleft()
        if self._pushers:
            waiter, pushed = self._pushers.popitem(last=False)
            self._items.append(pushed)
            waiter.wake()
        return thing

    def _push_later(self, thing: Any) -> None:
        waiter = Waiter()
        self._pushers[waiter] = thing
        try:
            outcome = waiter.wait("room in a queue")
        except BaseException:
            if not waiter.woken:
                del self._pushers[waiter]
            raise
        if outcome is _CLOSED:
            raise RuntimeError("queue closed")

    def take(self, what: Pop) -> Any:
        """The next object, waited for."""
        if self._items:
            return self._next()
        if self._closed:
            raise RuntimeError("queue closed")
        waiter = Waiter()
        self._poppers[waiter] = None
        try:
            thing = waiter.wait(what)
        except BaseException:
            if not waiter.woken:
                del self._poppers[waiter]
            elif waiter.value is not _CLOSED:
                self._put_back(waiter.value)
            raise
        if thing is _CLOSED:
            raise RuntimeError("queue closed")
        return thing

    def _put_back(self, thing: Any) -> None:
        if self._poppers:
            self._poppers.popitem(last=False)[0].wake(thing)
        else:
            self._items.appendleft(thing)


class Pop(Awaitable):
    __slots__ = ("_queue",)

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def wait(self) -> Any:
        return self._queue.take(self)

    def __str__(self) -> str:
        return "a queue"
