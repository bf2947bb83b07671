"""How a child process comes to be, so that it dies with its worker, even when that is killed.

PR_SET_PDEATHSIG says so to the kernel, and must be said in the child. Forking a worker of 50 MB to say it costs 2 ms of
CPU for its page tables; posix_spawn shares the worker's memory until exec and costs 0.3 ms, but runs no code of ours.
So the child becomes setpriv(1) first, which says it and becomes the program. Where there is no setpriv we fork.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
from posix import close, posix_spawn, waitpid  # not of os: those wait for turns of the hub
from posix import fork as fork_process
from typing import Any, NoReturn

STDOUT, INHERIT, NULL = STDERR = ("stdout", "inherit", "null")
"""Where a child's standard error goes."""
PR_SET_PDEATHSIG = 1
CAUGHT = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)
IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores them, and what is ignored stays so beyond exec."""

_prctl = ctypes.CDLL(None, use_errno=True).prctl
_setpriv: list[str | None] = []


def start(words: list[str], variables: dict[str, str], stderr: str) -> tuple[int, int, int]:
    """Run a program: the process's number, and our ends of its standard input and output. OSError as pipe(2), fork(2).

    A program that can't be run says so in the output and ends with 1, as in Kore 3.
    """
    stdin, feed = os.pipe()
    try:
        output, stdout = os.pipe()
    except OSError:
        close(stdin)
        close(feed)
        raise
    try:
        if setpriv() and shutil.which(words[0], path=variables.get("PATH", os.defpath)):
            pid = spawn(words, variables, (stdin, stdout, stderr))
        else:
            pid = fork(words, variables, (stdin, stdout, stderr))
    except OSError:
        close(feed)
        close(output)
        raise
    finally:
        close(stdin)
        close(stdout)
    return pid, feed, output


def setpriv() -> str | None:
    """The path of a setpriv that knows --pdeathsig (util-linux 2.33), asked once; None when there is none."""
    if not _setpriv:
        path = shutil.which("setpriv")
        if path is not None:
            quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
            pid = posix_spawn(path, command(path, ["true"]), os.environ, file_actions=quiet)
            path = path if waitpid(pid, 0)[1] == 0 else None
        _setpriv.append(path)
    return _setpriv[0]


def command(path: str, words: list[str]) -> list[str]:
    return [path, "--pdeathsig", "KILL", "--", *words]


def spawn(words: list[str], variables: dict[str, str], streams: tuple[int, int, str]) -> int:
    """The process's number. OSError as fork(2)."""
    stdin, stdout, stderr = streams
    actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1)]
    if stderr == STDOUT:
        actions.append((os.POSIX_SPAWN_DUP2, stdout, 2))
    elif stderr == NULL:
        actions.append((os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0))
    path = setpriv()
    assert path is not None
    return posix_spawn(
        path, command(path, words), variables, file_actions=actions, setsigmask=(), setsigdef=(*CAUGHT, *IGNORED)
    )


def fork(words: list[str], variables: dict[str, str], streams: tuple[int, int, str]) -> int:
    """The process's number. OSError as fork(2)."""
    parent = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)
    try:
        pid = fork_process()
        if not pid:
            become(words, variables, streams, parent)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def become(words: list[str], variables: dict[str, str], streams: tuple[int, int, str], parent: int) -> NoReturn:
    """In the child, for ever: the hub, its threads and its loop are the worker's and are not touched."""
    stdin, stdout, stderr = streams
    try:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:  # else it died before we asked to be told
            for number in (*CAUGHT, *IGNORED):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.dup2(stdin, 0)
            os.dup2(stdout, 1)
            if stderr == STDOUT:
                os.dup2(stdout, 2)
            elif stderr == NULL:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os.execvpe(words[0], words, variables)
    except BaseException as failure:
        os.write(2, f"{words[0]}: {getattr(failure, 'strerror', None) or failure}\n".encode())
    finally:
        os._exit(1)
