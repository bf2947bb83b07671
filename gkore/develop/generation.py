"""One generation of the server under ``gkore run``: a master forked from the warm process, and the line to it."""

from __future__ import annotations

import json
import os
import signal
import sys
from _socket import socketpair as raw_pair  # socket.socketpair makes patched sockets once everything is patched
from collections.abc import Callable, Iterable
from posix import fork  # not os.fork: see master.birth
from signal import signal as handle
from socket import AF_UNIX, SOCK_SEQPACKET, send_fds, socket
from typing import Any

from gkore.develop.standin import Known
from gkore.develop.warming import findings
from gkore.master import relief
from gkore.master.notes import Notes
from gkore.master.relief import Relief

Serve = Callable[[Relief], int]
"""Becomes a master in a forked process; its exit status."""
CAUGHT = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD)


class Generation:
    """A master, seen from the warm process."""

    def __init__(self, pid: int, line: socket, other: socket | None) -> None:
        self.pid = pid
        self.line = line
        self.open = True
        """Until it has said its last."""
        self.built = False
        """It has imported the application."""
        self.why = ""
        """Why it can't serve, when it said so."""
        self.servers: Known = []
        """Where it would have listened, as far as that was known when it refused."""
        self.stands_in = False
        """It serves nothing but a page with the mistake."""
        self.other = other
        """Until it is passed on: the socket on which the master that serves is to hand over."""

    def fileno(self) -> int:
        return self.line.fileno()

    def heard(self) -> dict[str, Any]:
        """What it says; {} at its end."""
        try:
            text = self.line.recv(relief.MESSAGE_MAX)
        except OSError:
            text = b""
        self.open = bool(text)
        said: dict[str, Any] = json.loads(text) if text else {}
        return said

    def hand_over(self, successor: Generation) -> None:
        """Have this master send what it holds to its successor."""
        if successor.other is not None:
            with successor.other as other:
                self.tell(relief.HANDED_ON, other)
            successor.other = None

    def tell(self, word: bytes, *sockets: socket) -> None:
        try:
            send_fds(self.line, [word], [sock.fileno() for sock in sockets])
        except OSError:
            pass  # it has ended: SIGCHLD says so

    def signal(self, number: int) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def close(self) -> None:
        self.line.close()
        if self.other is not None:
            self.other.close()


class Begun(SystemExit):
    """Raised in the forked process when its server has ended: through all frames, so that exit functions run."""


def beget(serve: Serve, beside: bool, strange: Iterable[socket], notes: Notes) -> Generation:
    """Fork a master, ``beside`` another one or alone; ``strange`` are what it must not keep."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    ours, theirs = pair()
    giving, taking = pair() if beside else (None, None)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = fork()
        if pid == 0:
            for sock in (ours, giving, *notes.sockets(), *strange):
                if sock is not None:
                    sock.close()
            be_born()
            raise Begun(serve(Relief(theirs, taking, describing())))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    if taking is not None:
        taking.close()
    return Generation(pid, ours, giving)


def be_born() -> None:
    """Signals are as in a process of its own."""
    signal.set_wakeup_fd(-1)
    for number in CAUGHT:
        handle(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def describing() -> Callable[[], dict[str, Any]]:
    """What there is to say when this process serves, compared with what was there at its birth."""
    known = frozenset(sys.modules)
    return lambda: findings(known)


def pair() -> tuple[socket, socket]:
    """Two ends of a line that keeps messages apart."""
    ends = raw_pair(AF_UNIX, SOCK_SEQPACKET, 0)
    ours, theirs = (socket(AF_UNIX, SOCK_SEQPACKET, 0, end.detach()) for end in ends)
    return ours, theirs
