"""sd_notify(3): telling systemd where the server stands. Without NOTIFY_SOCKET nothing happens.

One datagram of ``NAME=value`` lines. With ``Type=notify-reload`` systemd wants MONOTONIC_USEC beside RELOADING, taken
from CLOCK_MONOTONIC after the signal came, to tell an old READY from the one that ends the reload.
"""

from __future__ import annotations

import os
import time
from socket import AF_UNIX, MSG_NOSIGNAL, SOCK_DGRAM, socket

from gkore import log


def tell(**fields: object) -> None:
    """Send the fields, upper-cased, to the service manager; a manager that is gone is logged, never an error."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    message = "\n".join(f"{name.upper()}={value}" for name, value in fields.items())
    try:
        with socket(AF_UNIX, SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(message.encode(), MSG_NOSIGNAL, "\0" + path[1:] if path.startswith("@") else path)
    except OSError as failure:
        log.notice(f"systemd can't be told, NOTIFY_SOCKET {path}: {failure.strerror}")


def ready(status: str) -> None:
    tell(ready=1, status=status, mainpid=os.getpid())


def reloading() -> None:
    tell(reloading=1, monotonic_usec=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000, status="reloading")


def stopping(status: str) -> None:
    tell(stopping=1, status=status)


def extend(seconds: float) -> None:
    """Ask for so much more time than the unit's TimeoutStopSec gives (EXTEND_TIMEOUT_USEC)."""
    tell(extend_timeout_usec=int(seconds * 1e6))


class Keepalive:
    """WATCHDOG=1 at half of the interval that the unit asks for (WatchdogSec), as long as somebody calls ``beat``."""

    def __init__(self) -> None:
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        word = os.environ.get("WATCHDOG_USEC", "")
        self._pause = int(word) / 2e6 if mine and word.isdecimal() else 0.0
        self.pause = self._pause or float("inf")
        """Seconds between two beats."""
        self._due = 0.0

    def beat(self) -> None:
        """The master and its workers are alive."""
        now = time.monotonic()
        if self._pause and now >= self._due:
            self._due = now + self._pause
            tell(watchdog=1)
