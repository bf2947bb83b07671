"""Timers: once or every so often, never on the hub, never after close."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextvars import ContextVar
from time import monotonic
from typing import Any

import pytest
from coroutines import Complete

from gkore import api as kore
from gkore.worker import bus


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Timers belong to workers, which have an end of the bus."""
    monkeypatch.setattr(bus, "_end", object())
    return


async def until(condition: Any) -> None:
    end = monotonic() + 30
    while not condition():
        assert monotonic() < end
        await kore.suspend(1)


@pytest.mark.usefixtures("worker")
def test_a_one_shot_timer_fires_once_and_not_early(complete: Complete) -> None:
    fired: list[float] = []

    async def main() -> None:
        begun = monotonic()
        kore.timer(lambda: fired.append(monotonic() - begun), 10, kore.TIMER_ONESHOT)
        await until(lambda: fired)
        await kore.suspend(30)

    complete(main())
    assert len(fired) == 1
    assert fired[0] >= 0.0099


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("way", ["suspend", "timer", "timeout"])
def test_time_counts_from_the_call_however_long_the_task_has_run(complete: Complete, way: str) -> None:
    """Not from the moment when the loop last looked at the clock."""

    async def main() -> float:
        await kore.suspend(1)
        begun = monotonic()
        while monotonic() < begun + 0.03:
            pass
        begun = monotonic()
        fired: list[float] = []
        if way == "suspend":
            await kore.suspend(20)
        elif way == "timer":
            kore.timer(lambda: fired.append(monotonic() - begun), 20, kore.TIMER_ONESHOT)
            await until(lambda: fired)
        else:
            one, two = socket.socketpair()
            with one, two, pytest.raises(TimeoutError):
                await kore.socket_wrap(one).recv(1, 20)
        return fired[0] if fired else monotonic() - begun

    assert complete(main()) >= 0.0199


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("delay", [0, 2])
def test_an_interval_timer_fires_until_it_is_closed(complete: Complete, delay: int) -> None:
    fired: list[object] = []

    async def main() -> int:
        timer = kore.timer(fired.append, delay, 0, data="data")
        await until(lambda: len(fired) > 2)
        assert timer.close()
        assert timer.close()
        count = len(fired)
        await kore.suspend(20)
        return count

    assert complete(main()) == len(fired)
    assert set(fired) == {"data"}


@pytest.mark.usefixtures("worker")
def test_a_callback_may_wait_and_is_not_overtaken(complete: Complete) -> None:
    running = 0
    most = 0
    rounds: list[int] = []

    async def callback() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await kore.suspend(5)
        running -= 1
        rounds.append(1)

    async def main() -> None:
        timer = kore.timer(callback, 1)
        await until(lambda: len(rounds) > 2)
        timer.close()
        await until(lambda: not running)

    complete(main())
    assert most == 1


@pytest.mark.usefixtures("worker")
def test_a_failing_callback_is_reported_and_the_timer_goes_on(
    complete: Complete, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[BaseException] = []
    monkeypatch.setattr("gkore.worker.failures.report", lambda where, failure: seen.append(failure))

    async def main() -> None:
        timer = kore.timer(lambda: 1 // 0, 1)
        await until(lambda: len(seen) > 1)
        timer.close()

    complete(main())
    assert {type(failure) for failure in seen} == {ZeroDivisionError}


def test_misuse(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=r"kore\.timer not supported on parent process"):
        kore.timer(print, 1, 0)
    monkeypatch.setattr(bus, "_end", object())
    with pytest.raises(RuntimeError, match="invalid flags"):
        kore.timer(print, 1, 2)
    with pytest.raises(TypeError, match="calls a function"):
        kore.timer(None, 1, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="negative"):
        kore.timer(print, -1, 0)


@pytest.mark.usefixtures("worker")
def test_a_call_sees_nobodys_context_variables(complete: Complete) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nobody's")
    heard = []

    def due() -> None:
        heard.append(variable.get())
        variable.set("the last call's")

    async def main() -> None:
        variable.set("main's")
        timer = kore.timer(due, 1)
        await until(lambda: len(heard) > 3)
        timer.close()

    complete(main())
    assert set(heard) == {"nobody's"}
