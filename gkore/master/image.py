"""The program that this process runs: how it was started, how to try it once more aside, how to start it anew in place.

A reload replaces the master's whole program (``exec``), so that the new conf, the user's code and gkore itself are
read afresh while the pid stays. What the next program needs is left in a file in memory, whose descriptor it finds in
the environment. Signals are blocked meanwhile: the mask survives an ``exec``, handlers do not, and a SIGHUP that came
before the new program has its own would end it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from posix import close, execve, fork  # not of os: see log and birth
from typing import TYPE_CHECKING, Any

from gkore.master.notes import Notes

if TYPE_CHECKING:
    from gkore.master.relief import Relief

HERITAGE = "GKORE_HERITAGE"
REHEARSAL = "GKORE_REHEARSAL"
FORMAT = 1
"""Of the heritage: a gkore that can't read another's says so and leaves the old workers alone."""
OURS = (HERITAGE, REHEARSAL, "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""Variables that speak of descriptors, and to one program only."""
SIGNALS = frozenset(
    {
        signal.SIGTERM,
        signal.SIGQUIT,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGCHLD,
    }
)


class Image:
    """Directory, environment and words of a start, as they were before anybody's code could change them."""

    def __init__(self) -> None:
        self.directory = os.getcwd()
        self.environment = dict(os.environ)
        before = len(sys.orig_argv) - len(sys.argv) + 1
        self.interpreter = [sys.executable, *sys.orig_argv[1:before]]
        """Python, its options, and what makes it run gkore: ``-m gkore`` or the path of a script."""
        self.words = sys.argv[1:]
        self.notes = Notes()
        self.heritage: dict[str, Any] | None = None
        """What the program before left to this one, after a reload."""
        self.relief: Relief | None = None
        """With ``gkore run``: the line to the warm process that forks the next master."""

    def inherit(self) -> None:
        """Take what the program before left, and note signals from now on: they have been blocked since then."""
        try:
            self.heritage = inherited()
        finally:
            if signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
                self.notes.catch(SIGNALS)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def begin_aside(self, held: Iterable[str], output: int) -> int:
        """Start the same command with ``--check``, both of its streams to ``output``; its pid. OSError.

        ``held`` are the addresses that this server has already: all others it tries to bind.
        """
        environment = {**self.bare(), REHEARSAL: json.dumps(list(held))}
        command = [*self.interpreter, "--check", *self.words]
        pid = fork()
        if pid:
            return pid
        try:
            os.chdir(self.directory)
            null = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((null, 0), (output, 1), (output, 2)):
                os.dup2(source, target)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            execve(command[0], command, environment)
        finally:
            os._exit(127)

    def replace(self, heritage: dict[str, Any], descriptors: Iterable[int]) -> None:
        """Run the same command in this process from now on; returns only by an OSError, with everything as before."""
        kept = [*descriptors, self._file(heritage)]
        environment = {**self.bare(), HERITAGE: str(kept[-1])}
        command = [*self.interpreter, *self.words]
        here = os.getcwd()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            for descriptor in kept:
                os.set_inheritable(descriptor, True)
            os.chdir(self.directory)
            execve(command[0], command, environment)
        finally:
            os.chdir(here)
            for descriptor in kept:
                os.set_inheritable(descriptor, False)
            close(kept[-1])
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def bare(self) -> dict[str, str]:
        """The environment without what was meant for this program alone."""
        return {name: value for name, value in self.environment.items() if name not in OURS}

    @staticmethod
    def _file(heritage: dict[str, Any]) -> int:
        descriptor = os.memfd_create("gkore-heritage")
        with os.fdopen(os.dup(descriptor), "w") as file:
            json.dump({"format": FORMAT, "pid": os.getpid(), **heritage}, file)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor


def inherited() -> dict[str, Any] | None:
    """What the program before left to this one; None at a plain start. ValueError when it can't be read.

    Both are told apart by the pid: a gkore that some other program starts with our environment is a plain start.
    """
    word = os.environ.pop(HERITAGE, "")
    if not word:
        return None
    try:
        with os.fdopen(int(word)) as file:
            heritage: dict[str, Any] = json.load(file)
    except (OSError, ValueError):
        return None
    if heritage.get("pid") != os.getpid():
        return None
    if heritage.get("format") != FORMAT:
        raise ValueError(f"this gkore can't take over from format {heritage.get('format')}: stop and start the server")
    return heritage


def rehearsing() -> list[str] | None:
    """In a program started by ``begin_aside``: the addresses that the server has already. None in any other."""
    word = os.environ.pop(REHEARSAL, "")
    with suppress(ValueError):
        return [str(address) for address in json.loads(word)] if word else None
    return None
