"""Child processes: their words, pipes, exit codes, times; and that nothing of them stays."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest
from coroutines import Complete

from gkore import api as kore
from gkore.worker import birth
from gkore.worker.processes import split


@pytest.fixture(autouse=True, params=["setpriv", "fork"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to start a process."""
    assert birth.setpriv() is not None
    if request.param == "fork":
        monkeypatch.setattr(birth, "_setpriv", [None])


def gone(pid: int) -> bool:
    """Whether nothing is left of a child, no zombie either; waited for."""
    end = monotonic() + 30
    while os.path.exists(f"/proc/{pid}"):
        if monotonic() > end:
            return False
        gevent.sleep(0.005)
    return True


async def output_of(process: Any) -> bytes:
    got = b""
    while (data := await process.recv(100)) is not None:
        got += data
    return got


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("ls -l /tmp", ["ls", "-l", "/tmp"]),
        ("  ls   -l ", ["ls", "-l"]),
        ('echo "two words" ""', ["echo", "two words", ""]),
        ('sh -c "exit 3"', ["sh", "-c", "exit 3"]),
        ('a="b c"d', ["a=b cd"]),
    ],
)
def test_words(command: str, words: list[str]) -> None:
    assert split(command) == words


@pytest.mark.parametrize("command", ["", "   ", 'echo "open'])
def test_commands_that_are_none(command: str) -> None:
    with pytest.raises(RuntimeError, match=r"kore\.proc: "):
        split(command)


def test_input_output_and_exit_code(complete: Complete) -> None:
    async def main() -> Any:
        process = kore.proc("cat")
        await process.send(b"hello ")
        await process.send("world")
        first = await process.recv(100)
        process.close_stdin()
        process.close_stdin()
        end = await process.recv(100)
        return first, end, await process.reap(), process.pid

    first, end, code, pid = complete(main())
    assert (first, end, code) == (b"hello world", None, 0)
    assert gone(pid)


def test_plain_calls_as_in_the_reference(complete: Complete) -> None:
    async def main() -> Any:
        process = kore.proc("echo text")
        stdout = process.recv(8192)
        rest = process.recv(8192)
        return stdout, rest, process.reap()

    stdout, rest, code = complete(main())
    assert stdout == b"text\n"
    assert rest == b""
    assert code == 0


def test_more_than_a_pipe_holds_in_both_directions(complete: Complete) -> None:
    async def main() -> Any:
        process = kore.proc("cat")

        async def feed() -> None:
            await process.send(b"x" * 1_000_000)
            process.close_stdin()

        _, got = await kore.gather(feed(), output_of(process))
        return len(got), await process.reap()

    assert complete(main()) == (1_000_000, 0)


@pytest.mark.parametrize(("command", "code"), [('sh -c "exit 3"', 3), ('sh -c "kill -9 $$"', 9), ("true", 0)])
def test_exit_codes(complete: Complete, command: str, code: int) -> None:
    async def main() -> Any:
        return await kore.proc(command).reap()

    assert complete(main()) == code


def test_a_program_that_does_not_exist_says_so_in_its_output(complete: Complete) -> None:
    async def main() -> Any:
        process = kore.proc("no-such-program")
        return await output_of(process), await process.reap()

    output, code = complete(main())
    assert output == b"no-such-program: No such file or directory\n"
    assert code == 1


@pytest.mark.parametrize(("stderr", "expected"), [("stdout", b"out err "), ("null", b"out "), ("inherit", b"out ")])
def test_where_standard_error_goes(
    complete: Complete, stderr: str, expected: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> Any:
        return await output_of(kore.proc("sh -c \"printf 'out '; printf 'err ' >&2\"", stderr=stderr))

    assert complete(main()) == expected
    assert capfd.readouterr().err == ("err " if stderr == "inherit" else "")


def test_the_environment(complete: Complete, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GKORE_TEST", "inherited")

    async def main(**options: Any) -> Any:
        return await output_of(kore.proc('/bin/sh -c "printf %s,%s $GKORE_TEST $OTHER"', **options))

    assert complete(main()) == b"inherited,"
    assert complete(main(env=["OTHER=a=b"])) == b"a=b,"
    with pytest.raises(RuntimeError, match=r"kore\.proc: env is not of type 'list'"):
        complete(main(env={}))
    with pytest.raises(ValueError, match="stderr"):
        complete(main(stderr="nowhere"))


def test_late_output_is_timeout_error(complete: Complete) -> None:
    async def main() -> Any:
        process = kore.proc("cat")
        with pytest.raises(TimeoutError, match="timeout before operation completed"):
            await process.recv(10, 5)
        await process.send(b"after")
        got = await process.recv(10, 5000)
        process.kill()
        return got, await process.reap()

    assert complete(main()) == (b"after", 9)


@pytest.mark.parametrize("call", ["recv", "reap"])
def test_the_time_of_a_process_ends_one_wait_and_not_the_process(complete: Complete, call: str) -> None:
    async def main() -> Any:
        process = kore.proc("cat", 20)
        with pytest.raises(TimeoutError, match="timeout before process exited"):
            await (process.recv(10) if call == "recv" else process.reap())
        await process.send(b"alive")
        got = await process.recv(10)
        process.kill()
        code = await process.reap()
        process.kill()
        return got, code

    assert complete(main()) == (b"alive", 9)


def test_the_time_does_not_count_once_the_process_has_ended(complete: Complete) -> None:
    async def main() -> Any:
        process = kore.proc("echo done", 500)
        while not process._child.ended():
            await kore.suspend(1)
        process._deadline = monotonic() - 1
        return await process.recv(10), await process.reap()

    assert complete(main()) == (b"done\n", 0)


def test_misuse(complete: Complete) -> None:
    with pytest.raises(RuntimeError, match=r"kore\.proc only available in coroutines"):
        kore.proc("true")

    async def main() -> None:
        process = kore.proc("true")
        with pytest.raises(ValueError, match="negative"):
            process.recv(-1)
        assert await process.reap() == 0
        with pytest.raises(RuntimeError, match=f"process {process.pid} already being reaped"):
            process.reap()
        with pytest.raises(RuntimeError, match="socket EOF"):
            process.send(b"x")
        process.close_stdin()
        with pytest.raises(RuntimeError, match="stdin closed"):
            process.send(b"x")

    complete(main())


def test_a_process_dies_with_its_object_and_is_reaped(complete: Complete) -> None:
    async def main() -> int:
        return kore.proc("sleep 600").pid

    assert gone(complete(main()))


def test_a_killed_coroutine_takes_its_process_along(complete: Complete) -> None:
    pids: list[int] = []

    async def victim() -> None:
        process = kore.proc("sleep 600")
        pids.append(process.pid)
        await process.recv(1)

    async def main() -> None:
        ident = kore.task_create(victim())
        while not pids:
            await kore.suspend(1)
        assert kore.task_kill(ident)

    complete(main())
    assert gone(pids[0])


def test_statuses_survive_an_application_that_uses_subprocess(complete: Complete) -> None:
    async def one(code: int) -> Any:
        process = kore.proc(f'sh -c "exit {code}"')
        assert subprocess.run(["true"], check=False).returncode == 0
        return await process.reap()

    async def main() -> Any:
        return await kore.gather(*(one(code) for code in range(10)))

    assert complete(main()) == list(range(10))


def test_nothing_of_many_processes_stays(complete: Complete) -> None:
    async def one() -> None:
        process = kore.proc("cat")
        await process.send(b"x")
        await process.recv(1)

    async def main() -> None:
        await kore.gather(*(one() for _ in range(20)), concurrency=5)

    def left() -> tuple[int, int]:
        gc.collect()
        gevent.sleep(0.02)
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return len(os.listdir("/proc/self/fd")), len(children)

    complete(main())
    before = left()
    complete(main())
    end = monotonic() + 30
    while any(now > then for now, then in zip(left(), before, strict=True)):
        assert monotonic() < end, f"descriptors and children: {left()}, not {before}"


def test_children_die_with_their_worker(tmp_path: Any) -> None:
    program = (
        "from gevent import monkey; monkey.patch_all(signal=False)\n"
        "import gevent, sys\n"
        "from gkore import api as kore\n"
        "from gkore.worker import tasks\n"
        "async def main():\n"
        "    child = kore.proc('sleep 600')\n"
        "    print(child.pid, flush=True)\n"
        "    await kore.suspend(600_000)\n"
        "tasks.begin()\n"
        "kore.task_create(main())\n"
        "gevent.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        end = monotonic() + 30
        while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":  # it is setpriv, or the worker, for a moment
            assert monotonic() < end
        worker.send_signal(signal.SIGKILL)
    assert gone(pid)
