"""Queues: order, fairness, bounds, closing, and what a killed waiter would have got."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from coroutines import Complete

from gkore import api as kore
from gkore.worker import tasks


def test_first_in_first_out(complete: Complete) -> None:
    queue = kore.queue()

    async def main() -> list[Any]:
        for number in range(5):
            assert queue.push(number)
        return [await queue.pop() for _ in range(5)]

    assert complete(main()) == list(range(5))


def test_who_waited_first_is_served_first_and_no_wake_up_is_lost(complete: Complete) -> None:
    queue = kore.queue()
    got: list[tuple[int, Any]] = []

    async def consumer(number: int) -> None:
        got.append((number, await queue.pop()))

    async def main() -> None:
        members = kore.task_create(_all(*(consumer(number) for number in range(3))))
        await kore.suspend(1)
        queue.push("a")
        assert queue.popnow() is None, "it belongs to the first consumer already"
        queue.push("b")
        queue.push("c")
        await kore.suspend(5)
        assert not kore.task_kill(members)

    complete(main())
    assert got == [(0, "a"), (1, "b"), (2, "c")]


async def _all(*members: Any) -> None:
    await kore.gather(*members)


def test_popnow_does_not_wait(complete: Complete) -> None:
    queue = kore.queue("arguments", "are", "passed", "over")
    assert queue.popnow() is None
    queue.push(1)
    assert queue.popnow() == 1


def test_a_full_queue_makes_the_pusher_wait(complete: Complete) -> None:
    queue = kore.queue(limit=2)
    pushed: list[int] = []

    async def producer() -> None:
        for number in range(5):
            queue.push(number)
            pushed.append(number)

    async def main() -> list[Any]:
        kore.task_create(producer())
        await kore.suspend(1)
        assert pushed == [0, 1]
        return [await queue.pop() for _ in range(5)]

    assert complete(main()) == list(range(5))
    assert queue.popnow() is None


def test_a_killed_pusher_has_pushed_nothing(complete: Complete) -> None:
    queue = kore.queue(limit=1)

    async def producer() -> None:
        queue.push("second")

    async def main() -> None:
        queue.push("first")
        ident = kore.task_create(producer())
        await kore.suspend(1)
        assert kore.task_kill(ident)

    complete(main())
    assert queue.popnow() == "first"
    assert queue.popnow() is None


def test_a_killed_consumer_leaves_the_line(complete: Complete) -> None:
    queue = kore.queue()
    got: list[str] = []

    async def consumer(name: str) -> None:
        got.append(f"{name} {await queue.pop()}")

    async def main() -> None:
        first = kore.task_create(consumer("first"))
        kore.task_create(consumer("second"))
        await kore.suspend(1)
        kore.task_kill(first)
        queue.push("thing")
        await kore.suspend(1)

    complete(main())
    assert got == ["second thing"]


@pytest.mark.parametrize("others", [0, 1])
def test_what_a_killed_consumer_was_handed_goes_to_the_next(complete: Complete, others: int) -> None:
    queue = kore.queue()
    got: list[str] = []

    async def consumer(name: str) -> None:
        got.append(f"{name} {await queue.pop()}")

    async def main() -> None:
        job = tasks.Job(consumer("first"), lambda result, failure: None)
        job.start()
        for _ in range(others):
            kore.task_create(consumer("second"))
        await kore.suspend(1)
        gevent.get_hub().loop.run_callback(job._throw)  # runs before the callback that wakes it
        queue.push("thing")
        await kore.suspend(1)

    complete(main())
    assert got == ["second thing"] * others
    assert queue.popnow() == (None if others else "thing")


def test_a_closed_queue_tells_everybody(complete: Complete) -> None:
    queue = kore.queue(limit=1)

    async def pop() -> Any:
        return await queue.pop()

    async def push() -> None:
        queue.push("second")

    async def main() -> Any:
        kore.task_create(_close())
        return await kore.gather(pop(), pop())

    async def _close() -> None:
        queue.close()

    failures = complete(main())
    assert [str(failure) for failure in failures] == ["queue closed"] * 2
    with pytest.raises(RuntimeError, match="queue closed"):
        complete(push())


def test_what_was_pushed_before_the_end_can_still_be_popped(complete: Complete) -> None:
    queue = kore.queue()

    async def main() -> None:
        queue.push("left")
        queue.close()
        assert await queue.pop() == "left"
        await queue.pop()

    with pytest.raises(RuntimeError, match="queue closed"):
        complete(main())


def test_a_limit_is_not_negative() -> None:
    with pytest.raises(ValueError, match="negative"):
        kore.queue(limit=-1)
