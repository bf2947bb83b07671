"""From fork to the worker's first line: what the child sheds before ``run_worker`` gets it.

Signals are blocked across the fork. Without that a SIGTERM which arrives between fork and the reset of the handlers
would be noted in the child's copy of the master's notes, where nobody looks: the worker would never hear of it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from posix import fork  # not os.fork: once the standard library is patched, that name makes a hub
from signal import signal as handle  # captured likewise: the patched one does this for SIGCHLD
from typing import TYPE_CHECKING, NoReturn, Protocol

from setproctitle import setproctitle

from gkore import log
from gkore.errors import StartError
from gkore.master.privileges import Privileges
from gkore.protocol.slot import Exit, Slot

if TYPE_CHECKING:
    from gkore.conf.application import Application


class Closable(Protocol):
    """What only the master may hold: a socket or a pipe."""

    def close(self) -> object: ...


RunWorker = Callable[["Application", Slot], int]

TO_DEFAULT = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD)
TO_IGNORE = (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2)
"""Meant for the master; a terminal or ``killall`` sends them to the whole group, and by default they stop a process."""


def bear(
    application: Application, run_worker: RunWorker, slot: Slot, privileges: Privileges, strange: Iterable[Closable]
) -> int:
    """Fork a worker into the slot and give its pid; ``strange`` are the sockets that the child must not keep."""

    def live() -> int:
        try:
            _pin(application, slot.number)
            slot.memory = _opened("/proc/self/statm")  # behind a chroot there may be no /proc
            privileges.apply()
        except OSError:
            log.exception(f"worker {slot.number} can't give up its privileges (runas, root, worker_rlimit_nofiles):")
            return Exit.BOOT
        return run_worker(application, slot)

    return spawn(f"wrk {slot.number}", strange, live)


def spawn(name: str, strange: Iterable[Closable], live: Callable[[], int]) -> int:
    """Fork a process of ours that does nothing but ``live``, and ends with the status that gives; its pid. OSError."""
    _flush()  # or the child would print what the master has buffered once more
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = fork()
        if pid == 0:
            _live(name, strange, live)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live(name: str, strange: Iterable[Closable], live: Callable[[], int]) -> NoReturn:
    status: int = Exit.FATAL
    try:
        _shed(name, strange)
        status = live()
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else Exit.OK if left.code is None else Exit.FATAL
    except StartError as failure:
        log.error(str(failure))
        status = Exit.START
    except BaseException:
        log.exception(f"[{name}] ends on an exception")
    finally:
        _flush()
        os._exit(status & 0xFF)  # never back into the master's frames, nor its atexit functions


def _shed(name: str, strange: Iterable[Closable]) -> None:
    signal.set_wakeup_fd(-1)
    for number in TO_DEFAULT:
        handle(number, signal.SIG_DFL)
    for number in TO_IGNORE:
        handle(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    log.log.process = name
    setproctitle(f"gkore [{name}]")
    for sock in strange:
        sock.close()


def _opened(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _pin(application: Application, number: int) -> None:
    """Keep the worker on one CPU, round robin over those that the master may use (``worker_set_affinity``)."""
    usable = sorted(os.sched_getaffinity(0))
    if application.settings.worker_set_affinity and len(usable) > 1:
        os.sched_setaffinity(0, {usable[(number - 1) % len(usable)]})


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # closed, or None in a daemon
            pass
