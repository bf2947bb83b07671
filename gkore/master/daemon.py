"""Leaving the terminal, and the pid file: what a server does to be found by nobody but its operator.

The process that the operator started stays until the daemon has come up or has failed, and ends with its exit status:
``gkore -d`` in a script does not report a server that never was (Kore reports success before it has forked a worker).
"""

from __future__ import annotations

import os
from contextlib import suppress
from posix import close, fork  # not of os: see log and birth
from socket import MSG_NOSIGNAL, socket

from gkore import log
from gkore.master.relay import pair
from gkore.protocol.slot import Exit


class Daemon:
    """The way back to the process that the operator started; ``report`` may be called more than once."""

    __slots__ = ("waiting",)

    def __init__(self, waiting: socket | None = None) -> None:
        self.waiting = waiting

    def report(self, status: int) -> None:
        """Let that process end with ``status`` now."""
        if self.waiting is not None:
            with self.waiting as waiting, suppress(OSError):  # the operator may have killed it
                waiting.send(bytes([status]), MSG_NOSIGNAL)
            self.waiting = None


def daemonize() -> Daemon:
    """Go on in the background: new session, no terminal, same directory, /dev/null for the three streams (as Kore).

    Returns in the daemon only. The log, and what is printed, goes to ``logfile``; without one the log goes to syslog.
    """
    daemons, starters = pair()
    if fork():
        daemons.close()
        answer = starters.recv(1)
        os._exit(answer[0] if answer else Exit.FATAL)
    os.setsid()
    if fork():  # a session leader could get a terminal again by opening one
        os._exit(Exit.OK)
    starters.close()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:
        close(null)
    if log.log.path:
        log.log.take_streams()
    else:
        log.log.to_syslog()
    return Daemon(daemons)


def write_pidfile(path: str) -> None:
    """Write ``PID\\n``; a failure is a warning only, as in Kore."""
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
    except OSError as failure:
        log.notice(f"pidfile {path}: {failure.strerror}; going on without it")


def warn_of_neighbour(path: str) -> None:
    """Say so when the server that the file names still runs: nobody will find that one by it any more."""
    with suppress(OSError, ValueError):
        with open(path, encoding="ascii", errors="replace") as file:
            pid = int(file.read(32))
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            ours = file.read(32).startswith(b"gkore [parent]")
        if ours and pid != os.getpid():
            log.notice(
                f"pidfile {path}: taken from another server that runs, pid {pid}; give each a `pidfile` of its own"
            )


def remove_pidfile(path: str) -> None:
    """Remove the file if the pid in it is ours: another server may have taken the name."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            ours = file.read(32).strip() == str(os.getpid())
        if ours:
            os.unlink(path)
    except OSError:
        pass
