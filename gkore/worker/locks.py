"""``kore.lock``: one owner at a time, the next one in the order of waiting.

A lock binds to no hub: it may be made before fork. It is handed from owner to waiter; a newcomer can't slip in between
(Kore's can). A coroutine that ends while it owns a lock gives it back (in Kore 4 it is then owned for ever).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from greenlet import getcurrent

from gkore.worker.bridge import Task
from gkore.worker.waits import DONE, Awaitable, Waiter


class Lock:
    """A lock between coroutines (``kore.lock``)."""

    __slots__ = ("_line", "_owner")

    def __init__(self) -> None:
        self._owner: object = None
        self._line: OrderedDict[Waiter, object] = OrderedDict()

    def acquire(self) -> Acquire:
        """Await it to own the lock. RuntimeError "recursive lock detected" for its owner."""
        return Acquire(self)

    def trylock(self) -> bool:
        """Own the lock if nobody does; True when it is ours now."""
        if self._owner is not None:
            return False
        self._take(getcurrent())
        return True

    def release(self) -> None:
        """Give the lock to whoever waits first. RuntimeError when the caller does not own it."""
        if self._owner is None:
            raise RuntimeError("no lock owner set")
        if self._owner is not getcurrent():
            raise RuntimeError("lock not owned by caller")
        self._give_back()

    def __aenter__(self) -> Acquire:
        return Acquire(self)

    def __aexit__(self, kind: object, value: object, trace: object) -> Awaitable:
        if self._owner is not getcurrent():
            raise RuntimeError("invalid lock owner")
        self._give_back()
        return DONE

    def abandon(self, task: Task) -> None:
        """``task`` has ended without releasing the lock."""
        if self._owner is task:
            self._pass_on()

    def claim(self, what: Acquire) -> None:
        """Wait in line until the lock is the running task's."""
        task = getcurrent()
        if self._owner is task:
            raise RuntimeError("recursive lock detected")
        if self._owner is not None:
            waiter = Waiter()
            self._line[waiter] = task
            try:
                waiter.wait(what)
            except BaseException:
                if waiter.woken:
                    self._pass_on()
                else:
                    del self._line[waiter]
                raise
        self._take(task)

    def _take(self, task: Any) -> None:
        self._owner = task
        if isinstance(task, Task):
            task.hold(self)

    def _give_back(self) -> None:
        owner = self._owner
        if isinstance(owner, Task) and owner.held:
            owner.held.remove(self)
        self._pass_on()

    def _pass_on(self) -> None:
        if self._line:
            waiter, self._owner = self._line.popitem(last=False)
            waiter.wake()
        else:
            self._owner = None


class Acquire(Awaitable):
    __slots__ = ("_lock",)

    def __init__(self, lock: Lock) -> None:
        self._lock = lock

    def wait(self) -> None:
        self._lock.claim(self)

    def __str__(self) -> str:
        return "a lock"
