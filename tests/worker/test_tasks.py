"""Tasks: start, end, early end; gather; what a coroutine leaves behind."""

from __future__ import annotations

import asyncio
import gc
from contextvars import ContextVar
from typing import Any

import gevent
import pytest
from coroutines import Complete

from gkore import api as kore
from gkore.worker import bridge, tasks


def test_gather_keeps_the_order_of_its_arguments(complete: Complete) -> None:
    async def after(milliseconds: int) -> int:
        await kore.suspend(milliseconds)
        return milliseconds

    async def main() -> Any:
        return await kore.gather(after(20), after(0), after(10))

    assert complete(main()) == [20, 0, 10]


def test_an_exception_is_a_result_of_gather(complete: Complete) -> None:
    async def bad() -> None:
        raise KeyError("x")

    async def good() -> str:
        return "fine"

    async def main() -> Any:
        return await kore.gather(bad(), good())

    failure, result = complete(main())
    assert isinstance(failure, KeyError)
    assert result == "fine"


def test_gather_needs_no_await_and_takes_the_results_of_plain_functions(complete: Complete) -> None:
    def plain(number: int) -> int:
        return number * 2

    async def main() -> list[Any]:
        return [result for result in kore.gather(plain(1), plain(2))]  # noqa: C416

    assert complete(main()) == [2, 4]


def test_gather_of_nothing_is_empty(complete: Complete) -> None:
    async def main() -> Any:
        return await kore.gather()

    assert complete(main()) == []


@pytest.mark.parametrize(("width", "expected"), [(1, 1), (3, 3), (0, 8), (100, 8)])
def test_concurrency_is_a_window_that_is_kept_full(complete: Complete, width: int, expected: int) -> None:
    running: list[int] = []
    most = 0

    async def member(number: int) -> int:
        nonlocal most
        running.append(number)
        most = max(most, len(running))
        await kore.suspend(number % 3)
        running.remove(number)
        return number

    async def main() -> Any:
        return await kore.gather(*(member(number) for number in range(8)), concurrency=width)

    assert complete(main()) == list(range(8))
    assert most == expected


def test_gather_only_in_coroutines() -> None:
    with pytest.raises(RuntimeError, match=r"kore\.gather only available in coroutines"):
        kore.gather()


@pytest.mark.parametrize("wrong", [print, test_gather_only_in_coroutines, int])
def test_functions_are_no_coroutines(complete: Complete, wrong: Any) -> None:
    async def main() -> Any:
        return await kore.gather(wrong)

    with pytest.raises(TypeError, match="not a coroutine"):
        complete(main())
    with pytest.raises(TypeError, match="not a coroutine"):
        kore.task_create(wrong)


def test_killing_the_gatherer_kills_its_members(complete: Complete) -> None:
    ends: list[str] = []

    async def member(name: str) -> None:
        try:
            await kore.suspend(60_000)
        finally:
            ends.append(name)

    async def gatherer() -> None:
        await kore.gather(member("a"), member("b"), member("never started"), concurrency=2)

    async def main() -> None:
        ident = kore.task_create(gatherer())
        await kore.suspend(5)
        assert kore.task_kill(ident)
        await kore.suspend(0)

    complete(main())
    assert sorted(ends) == ["a", "b"]


def test_a_killed_task_unwinds_before_the_killer_goes_on_and_may_wait_meanwhile(complete: Complete) -> None:
    ends: list[object] = []

    async def victim() -> None:
        try:
            await kore.suspend(60_000)
        except GeneratorExit as end:
            ends.append(type(end))
            raise
        finally:
            ends.append("finally")
            await kore.suspend(1)
            ends.append("waited")

    async def main() -> bool:
        ident = kore.task_create(victim())
        await kore.suspend(1)
        assert kore.task_kill(ident)
        assert ends == [GeneratorExit, "finally"]
        await kore.suspend(20)
        return kore.task_kill(ident)

    assert complete(main()) is False
    assert ends == [GeneratorExit, "finally", "waited"]


def test_a_task_that_has_not_begun_can_be_killed(complete: Complete) -> None:
    async def victim() -> None:
        raise AssertionError

    async def main() -> None:
        ident = kore.task_create(victim())
        assert kore.task_kill(ident)
        assert not kore.task_kill(ident)
        await kore.suspend(1)

    complete(main())


def test_nobody_kills_himself(complete: Complete) -> None:
    async def main() -> None:
        kore.task_kill(kore.task_id())

    with pytest.raises(RuntimeError, match="refusing to kill active coroutine"):
        complete(main())


def test_a_number_dies_with_its_coroutine(complete: Complete) -> None:
    async def first() -> int:
        return kore.task_id()

    async def second() -> int:
        return kore.task_id()

    one, two = complete(first()), complete(second())
    assert one != two
    assert not kore.task_kill(one)
    assert not {one, two} & bridge.numbered.keys()


def test_names_and_numbers_only_in_coroutines() -> None:
    with pytest.raises(RuntimeError, match="no coroutine active"):
        kore.task_id()
    with pytest.raises(RuntimeError, match=r"kore\.coroname\(\) only available in coroutines"):
        kore.coroname("x")


def test_a_failing_task_is_reported_and_goes_no_further(complete: Complete, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, BaseException]] = []
    monkeypatch.setattr("gkore.worker.failures.report", lambda where, failure: seen.append((where, failure)))

    async def bad() -> None:
        raise KeyError("x")

    async def main() -> None:
        kore.task_create(bad())
        await kore.suspend(1)

    complete(main())
    ((where, failure),) = seen
    assert "bad" in where
    assert isinstance(failure, KeyError)


def test_a_strangers_awaitable_is_named_with_the_way_out(complete: Complete) -> None:
    loop = asyncio.new_event_loop()

    async def future() -> None:
        await loop.create_future()

    async def sleep() -> None:
        await asyncio.sleep(1)

    try:
        with pytest.raises(TypeError, match=r"(?s)asyncio.*Future.*kore\.aio"):
            complete(future())
    finally:
        loop.close()
    with pytest.raises(RuntimeError, match="no running event loop") as raised:
        complete(sleep())
    bridge.advise(raised.value)  # as whoever reports it does, too
    (note,) = raised.value.__notes__
    assert "kore.aio" in note


def test_nothing_waits_on_the_hub() -> None:
    failures: list[BaseException] = []

    def on_the_hub() -> None:
        try:
            kore.suspend(1).wait()
        except RuntimeError as failure:
            failures.append(failure)

    gevent.get_hub().loop.run_callback(on_the_hub)
    gevent.sleep(0.01)
    assert len(failures) == 1


def test_tasks_leave_no_greenlets_behind(complete: Complete) -> None:
    async def member() -> None:
        await kore.suspend(1)

    async def main() -> None:
        for _ in range(3):
            await kore.gather(*(member() for _ in range(3000)))

    others = _alive()  # of tests that ran in this process before
    jobs = dict(tasks._jobs)
    complete(main())
    alive = _alive() - others
    assert len(alive) <= tasks._pool._idle_max + bridge.Pool.IDLE_MAX
    assert [task.name or task.waits_for for task in alive if task.coroutine is not None] == []
    assert tasks._jobs.keys() <= jobs.keys()


def _alive() -> set[bridge.Task]:
    gc.collect()
    return {thing for thing in gc.get_objects() if isinstance(thing, bridge.Task) and not thing.dead}


def test_corotrace_tells_runs_waits_and_ends(complete: Complete, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr("gkore.log.info", lines.append)

    async def main() -> None:
        kore.coroname("sleeper")
        kore.corotrace(True)
        await kore.suspend(2)

    try:
        complete(main())
    finally:
        kore.corotrace(False)
    text = "\n".join(lines)
    assert "(sleeper) waits for suspend(2)" in text
    assert "(sleeper) runs" in text
    assert "ended" in text
    lines.clear()
    complete(_quiet())
    assert lines == []


async def _quiet() -> None:
    await kore.suspend(1)


def test_coroutines_have_their_makers_context_variables_and_keep_their_own(complete: Complete) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nobody's")
    heard: list[str] = []

    async def member(name: str) -> str:
        before = variable.get()
        variable.set(name)
        await kore.suspend(1)
        return f"{variable.get()} of {before}"

    async def task() -> None:
        heard.append(await member("task"))

    async def asked() -> str:
        return variable.get()

    async def main() -> list[str]:
        variable.set("main")
        kore.task_create(task())
        outside = await kore.thread(variable.get), await kore.aio(asked())
        return [*await kore.gather(member("a"), member("b"), concurrency=1), *outside, variable.get()]

    assert complete(main()) == ["a of main", "b of main", "main", "main", "main"]
    assert heard == ["task of main"]

    async def stranger() -> str:
        return variable.get()

    assert complete(stranger()) == "nobody's"
