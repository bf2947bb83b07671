"""``kore.proc``: child processes, their pipes, their end.

Rules:
- A child dies with its worker (see ``birth``), and with its ``kore.proc`` object, as in Kore: when nobody holds the
  object any more the child is killed, and it is always reaped.
- Its end is seen through a pidfd. Should gevent's own child watcher be quicker, because the application uses
  ``subprocess`` as well and so has SIGCHLD handled, the exit status is taken from there.
- Calls wait by themselves, and what they return can be awaited too: the reference's example awaits nothing.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Generator
from functools import partial
from posix import close  # not os.close: a child would wait a turn of the hub for the end of its input
from time import monotonic
from typing import Any

from gevent import get_hub

from gkore.worker import bridge, waits
from gkore.worker.birth import STDERR, STDOUT, start
from gkore.worker.readiness import READ, WRITE, Readiness
from gkore.worker.sockets import as_bytes, checked_length
from gkore.worker.waits import DONE, Awaitable, Waiter, limit

LATE = "timeout before process exited"

_WORD = re.compile(r'"([^"]*)"|([^\s"]+)|(")')


class Proc:
    """A child process (``kore.proc``)."""

    __slots__ = ("_child", "_deadline", "_reaped", "_stdin", "_stdout", "pid")

    def __init__(
        self, command: str, timeout: float = -1, *, env: list[str] | None = None, stderr: str = STDOUT
    ) -> None:
        """Run ``command``, found on PATH; words in double quotes may hold blanks, there is no shell.

        TimeoutError is raised where the process is waited for, once, when it has not ended after ``timeout``
        milliseconds; it runs on. ``env`` is a list of ``NAME=value`` (Kore 4.3; without it the worker's own, where Kore
        gives none). ``stderr``: "stdout" as in Kore, "inherit" or "null" (ours). RuntimeError outside of coroutines.
        """
        bridge.coroutine_task("kore.proc")
        if stderr not in STDERR:
            raise ValueError(f"kore.proc: stderr is one of {', '.join(STDERR)}, not {stderr!r}")
        self.pid, stdin, stdout = start(split(command), environment(env), stderr)
        self._child = Child(self.pid)
        self._stdin = Pipe(stdin, WRITE)
        self._stdout = Pipe(stdout, READ)
        seconds = limit(timeout or None)
        self._deadline = None if seconds is None else monotonic() + seconds
        self._reaped = False

    def recv(self, length: int, timeout: float = -1) -> Output:
        """Up to ``length`` bytes of the output; None when awaited, and ``b""`` when not, at its end.

        TimeoutError after ``timeout`` milliseconds.
        """
        checked_length(length)
        if self._stdout.closed:
            raise RuntimeError("stdout closed")
        data = self._bounded(partial(self._stdout.read, length), limit(timeout))
        return Output(data) if data or not length else EndOfOutput()

    def send(self, data: Any) -> Awaitable:
        """Write all of ``data`` to its standard input. RuntimeError when that is closed, on either end."""
        rest = memoryview(as_bytes(data))
        while rest:
            if self._stdin.closed:
                raise RuntimeError("stdin closed")
            try:
                rest = rest[self._bounded(partial(self._stdin.write, rest)) :]
            except (BrokenPipeError, EOFError):
                raise RuntimeError("socket EOF") from None
        return DONE

    def reap(self) -> ExitCode:
        """Wait for the end: the exit code, or the raw wait status when a signal ended it (9 for SIGKILL).

        RuntimeError when it was reaped before. Unlike Kore's, the process's timeout holds here, too.
        """
        if self._reaped:
            raise RuntimeError(f"process {self.pid} already being reaped")
        self._reaped = True
        try:
            return ExitCode(self._bounded(self._child.wait))
        except BaseException:
            self._reaped = False
            raise

    def kill(self) -> bool:
        """Send SIGKILL; harmless when the process has ended."""
        self._child.kill()
        return True

    def close_stdin(self) -> bool:
        """Let the process see the end of its input; twice is harmless."""
        self._stdin.close()
        return True

    def _bounded(self, act: Callable[[float | None], Any], seconds: float | None = None) -> Any:
        """``act`` within its own time and that of the process, whichever ends first."""
        child = self._child
        if self._deadline is None or child.ended():
            return act(seconds)
        left = self._deadline - monotonic()
        if seconds is not None and seconds < left:
            return act(seconds)
        try:
            return act(max(0.0, left))
        except TimeoutError:
            if child.ended():
                return act(seconds)
            self._deadline = None
            raise TimeoutError(LATE) from None

    def __del__(self) -> None:
        if hasattr(self, "_stdout"):
            self._child.kill()
            self._stdin.close()
            self._stdout.close()


class Output(bytes):
    """Bytes that are there already and can be awaited."""

    def __await__(self) -> Generator[Any, Any, Any]:
        return waits.given(bytes(self))


class EndOfOutput(Output):
    """No bytes, and None to who awaits it."""

    def __await__(self) -> Generator[Any, Any, Any]:
        return waits.given(None)


class ExitCode(int):
    """A number that is there already and can be awaited."""

    def __await__(self) -> Generator[Any, Any, Any]:
        return waits.given(int(self))


class Pipe(Readiness):
    """One end of a pipe, ours."""

    __slots__ = ()

    def __init__(self, descriptor: int, event: int) -> None:
        os.set_blocking(descriptor, False)
        super().__init__(descriptor, event)

    def read(self, length: int, seconds: float | None) -> bytes:
        return self.until("the output of a process", partial(os.read, self._descriptor, length), seconds)

    def write(self, data: memoryview, seconds: float | None) -> int:
        return self.until("a process to read", partial(os.write, self._descriptor, data), seconds)

    def close(self) -> None:
        if not self.closed:
            super().close()
            close(self._descriptor)


class Child:
    """A process of ours until it is reaped, whether or not somebody asks for its status."""

    def __init__(self, pid: int) -> None:
        self.status: int | None = None
        self._waiters: list[Waiter] = []
        self._pidfd = os.pidfd_open(pid)
        loop = get_hub().loop
        self._readable: Any = loop.io(self._pidfd, READ)
        self._readable.start(self._reap)
        self._stolen: Any = loop.child(pid) if loop.default else None
        if self._stolen is not None:
            self._stolen.start(self._reaped_by_gevent)

    def ended(self) -> bool:
        return self.status is not None

    def kill(self) -> None:
        if self.status is None:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def wait(self, seconds: float | None) -> int:
        """Its status, waited for. TimeoutError after ``seconds``."""
        if self.status is None:
            waiter = Waiter()
            self._waiters.append(waiter)
            try:
                waiter.wait("the end of a process", seconds)
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        return self.status or 0

    def _reap(self) -> None:
        try:
            found = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            self._readable.stop()  # gevent's watcher has it, and will say so
            return
        if found is not None:
            core = 0x80 if found.si_code == os.CLD_DUMPED else 0
            self._end(found.si_status | core)

    def _reaped_by_gevent(self) -> None:
        status = self._stolen.rstatus
        self._end(os.WEXITSTATUS(status) if os.WIFEXITED(status) else status)

    def _end(self, status: int) -> None:
        if self.status is not None:
            return
        self.status = status
        for watcher in (self._readable, self._stolen):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        close(self._pidfd)
        for waiter in self._waiters:
            waiter.wake()


def split(command: str) -> list[str]:
    """The words of a command line: blanks part them, double quotes hold them together. RuntimeError for none at all."""
    words: list[str] = []
    glued_to = -1
    for match in _WORD.finditer(command):
        if match[3]:
            raise RuntimeError(f"kore.proc: a double quote is left open in: {command}")
        word = match[1] if match[1] is not None else match[2]
        if match.start() == glued_to:
            words[-1] += word
        else:
            words.append(word)
        glued_to = match.end()
    if not words:
        raise RuntimeError("kore.proc: the command is empty")
    return words


def environment(env: object) -> dict[str, str]:
    """The variables of a child."""
    if env is None:
        return dict(os.environ)
    if not isinstance(env, list):
        raise RuntimeError("kore.proc: env is not of type 'list'")
    return {name: value for name, _, value in (variable.partition("=") for variable in env)}
