"""Work done in a process that is thrown away: it may read what we must not keep, and it may crash."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from posix import close, fork, waitpid  # not of os: see log and master.birth
from select import POLLIN, poll
from time import monotonic

TIME_MAX = 10.0
"""Seconds; files on a network that has gone must not keep a server from its work."""
TEXT_MAX = 65536


def aside(work: Callable[[], str]) -> str:
    """What ``work`` returns, called in a child; when that crashes or does not end, the text says so.

    OSError when there is no process to be had.
    """
    reader, writer = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = fork()
        if not pid:
            _do(work, writer)
    except OSError:
        close(reader)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        close(writer)
    try:
        text = _read(reader)
        if text is None:
            os.kill(pid, signal.SIGKILL)
        try:
            status = os.waitstatus_to_exitcode(waitpid(pid, 0)[1])
        except ChildProcessError:  # user code in the parent waited for "any child" and got ours
            status = 0
    finally:
        close(reader)
    if text is None:
        return f"not done within {TIME_MAX:g} s"
    return f"{text}it ended with status {status}" if status else text


def _do(work: Callable[[], str], writer: int) -> None:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        data = work().encode()[:TEXT_MAX]
        os.write(writer, data)
        status = 0
    except BaseException as failure:
        os.write(writer, f"{failure!r}: ".encode())
    finally:
        os._exit(status)


def _read(reader: int) -> str | None:
    """All that is written, or None when it takes too long."""
    said, end = b"", monotonic() + TIME_MAX
    waiter = poll()
    waiter.register(reader, POLLIN)
    while (left := end - monotonic()) > 0:
        if not waiter.poll(int(left * 1000) + 1):
            continue
        data = os.read(reader, TEXT_MAX)
        if not data:
            return said.decode("utf-8", "replace")
        said += data
    return None
