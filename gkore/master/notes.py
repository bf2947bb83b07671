"""Signals are noted, nothing more: handlers run between any two instructions of the master, so they decide nothing."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterable
from select import POLLIN
from signal import signal as handle  # captured: the patched one does this for SIGCHLD
from socket import socket

from gkore.master.relay import pair


class Notes:
    """What came and was not acted on yet, and the socket that wakes the loop for it."""

    events = POLLIN

    def __init__(self) -> None:
        self.noted: deque[signal.Signals] = deque()
        self.wake, self.waker = pair()
        self.waker.setblocking(False)

    def catch(self, numbers: Iterable[signal.Signals]) -> None:
        """Note these from now on; again after the application's code, which may have set handlers of its own."""
        for number in numbers:
            handle(number, self._note)
        signal.set_wakeup_fd(self.waker.fileno(), warn_on_full_buffer=False)

    def _note(self, number: int, _: object) -> None:
        self.noted.append(signal.Signals(number))

    def release(self) -> None:
        signal.set_wakeup_fd(-1)

    def fileno(self) -> int:
        return self.wake.fileno()

    def act(self, _: int) -> None:
        self.wake.recv(4096)

    def sockets(self) -> Iterable[socket]:
        return self.wake, self.waker
