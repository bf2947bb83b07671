"""Locks: who owns them, who is next, and what happens to those who are ended while they wait."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from coroutines import Complete

from gkore import api as kore
from gkore.worker import tasks

LOCK_OF_THE_PARENT = kore.lock()


def test_waiters_own_it_in_the_order_of_waiting_and_newcomers_last(complete: Complete) -> None:
    lock = kore.lock()
    order: list[int] = []

    async def worker(number: int) -> None:
        async with lock:
            order.append(number)
            await kore.suspend(0)

    async def main() -> None:
        await kore.gather(*(worker(number) for number in range(50)))

    complete(main())
    assert order == list(range(50))


def test_a_released_lock_belongs_to_the_waiter_at_once(complete: Complete) -> None:
    lock = kore.lock()

    async def waiter() -> str:
        async with lock:
            return "waiter"

    async def main() -> tuple[bool, Any]:
        await lock.acquire()
        ident = kore.task_create(waiter())
        await kore.suspend(1)
        lock.release()
        snatched = lock.trylock()
        await kore.suspend(1)
        return snatched, (ident, lock.trylock())

    snatched, (_, free) = complete(main())
    assert snatched is False
    assert free is True


def test_misuse_says_what_kore_says(complete: Complete) -> None:
    lock = kore.lock()

    async def twice() -> None:
        async with lock, lock:
            pass

    async def not_mine() -> None:
        lock.release()

    async def owned_by_another() -> None:
        async with lock:
            (failure,) = await kore.gather(not_mine())
            raise failure

    async def left_by_another() -> None:
        async with lock:
            lock.release()

    for wrong, text in (
        (twice, "recursive lock detected"),
        (not_mine, "no lock owner set"),
        (owned_by_another, "lock not owned by caller"),
        (left_by_another, "invalid lock owner"),
    ):
        with pytest.raises(RuntimeError, match=text):
            complete(wrong())
        assert lock.trylock()
        lock.release()


def test_a_waiter_that_is_killed_leaves_the_line(complete: Complete) -> None:
    lock = kore.lock()
    got: list[str] = []

    async def waiter(name: str) -> None:
        async with lock:
            got.append(name)

    async def main() -> None:
        async with lock:
            first = kore.task_create(waiter("first"))
            kore.task_create(waiter("second"))
            await kore.suspend(1)
            assert kore.task_kill(first)
        await kore.suspend(1)

    complete(main())
    assert got == ["second"]
    assert lock.trylock()


def test_a_waiter_killed_between_its_turn_and_its_run_passes_the_lock_on(complete: Complete) -> None:
    lock = kore.lock()
    got: list[str] = []

    async def waiter(name: str) -> None:
        async with lock:
            got.append(name)

    async def main() -> None:
        await lock.acquire()
        job = tasks.Job(waiter("first"), lambda result, failure: None)
        job.start()
        kore.task_create(waiter("second"))
        await kore.suspend(1)
        assert job.task is not None
        gevent.get_hub().loop.run_callback(job._throw)  # runs before the callback that wakes it
        lock.release()
        await kore.suspend(1)

    complete(main())
    assert got == ["second"]
    assert lock.trylock()


def test_a_coroutine_that_ends_gives_its_locks_back(complete: Complete) -> None:
    lock = kore.lock()

    async def forgetful() -> None:
        await lock.acquire()

    async def main() -> None:
        await kore.gather(forgetful())
        async with lock:
            pass

    complete(main())


def test_a_killed_owner_gives_its_lock_to_the_next(complete: Complete) -> None:
    lock = kore.lock()

    async def owner() -> None:
        await lock.acquire()
        await kore.suspend(60_000)

    async def main() -> str:
        ident = kore.task_create(owner())
        await kore.suspend(1)
        assert not lock.trylock()
        assert kore.task_kill(ident)
        async with lock:
            return "mine"

    assert complete(main()) == "mine"


def test_a_lock_made_before_any_hub_works(complete: Complete) -> None:
    async def main() -> None:
        async with LOCK_OF_THE_PARENT:
            await kore.suspend(0)

    complete(main())
