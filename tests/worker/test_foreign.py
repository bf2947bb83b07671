"""Native threads and asyncio, beside the hub."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest
from coroutines import Complete
from gevent.monkey import get_original

from gkore import api as kore

really_sleep = get_original("time", "sleep")


def test_threads_run_beside_the_hub_and_at_once(complete: Complete) -> None:
    """Each of five blocks until the hub has seen that all of them run."""
    reader, writer = os.pipe()
    running: list[None] = []

    def block() -> bytes:
        running.append(None)
        return os.read(reader, 1)

    async def main() -> Any:
        begun = [kore.thread(block) for _ in range(5)]
        while len(running) < 5:
            await kore.suspend(1)
        os.write(writer, b"12345")
        return [await thread for thread in begun], await kore.thread(divmod, 7, 2)

    read, result = complete(main())
    os.close(reader)
    os.close(writer)
    assert sorted(read) == [b"1", b"2", b"3", b"4", b"5"]
    assert result == (3, 1)


def test_what_a_thread_raises_is_raised_where_it_is_awaited(
    complete: Complete, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> Any:
        return await kore.thread(int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        complete(main())
    assert capfd.readouterr().err == ""
    with pytest.raises(TypeError, match=r"kore\.thread runs a function"):
        kore.thread(5)


def test_who_waits_for_a_thread_can_be_ended(complete: Complete) -> None:
    async def wait() -> None:
        await kore.thread(really_sleep, 0.05)

    async def main() -> None:
        ident = kore.task_create(wait())
        await kore.suspend(5)
        assert kore.task_kill(ident)
        await kore.suspend(60)

    complete(main())


def test_an_asyncio_coroutine_gives_its_result(complete: Complete) -> None:
    async def foreign() -> Any:
        await asyncio.sleep(0.001)
        inner = asyncio.get_running_loop().run_in_executor(None, time.strftime, "%Y")
        return await inner, await asyncio.gather(asyncio.sleep(0, "a"), asyncio.sleep(0, "b"))

    async def main() -> Any:
        return await kore.gather(*(_aio(foreign()) for _ in range(3)))

    year = time.strftime("%Y")
    assert complete(main()) == [(year, ["a", "b"])] * 3


async def _aio(coroutine: Any) -> Any:
    return await kore.aio(coroutine)


def test_asyncio_streams(complete: Complete) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def foreign() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("localhost", server.sockets[0].getsockname()[1])
        writer.write(b"line\n")
        line = await reader.readline()
        writer.close()
        server.close()
        return line

    assert complete(_aio(foreign())) == b"line\n"


def test_what_asyncio_raises_is_raised_where_it_is_awaited(complete: Complete) -> None:
    async def foreign() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    with pytest.raises(KeyError):
        complete(_aio(foreign()))
    with pytest.raises(TypeError, match=r"kore\.aio runs a coroutine"):
        kore.aio(print)  # type: ignore[arg-type]


def test_who_waits_for_asyncio_cancels_it_when_he_is_ended(complete: Complete) -> None:
    begun: list[None] = []
    ends: list[str] = []

    async def foreign() -> None:
        begun.append(None)
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async def main() -> None:
        ident = kore.task_create(_aio(foreign()))
        while not begun:
            await kore.suspend(1)
        assert kore.task_kill(ident)
        while not ends:
            await kore.suspend(1)

    complete(main())
    assert ends == ["cancelled"]
