"""Before a reload: the new conf and code in a process that is thrown away. What fails there changes nothing here."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from posix import close  # not of os: see log and birth
from select import POLLIN
from signal import SIGKILL
from time import monotonic

from gkore.master import deaths
from gkore.master.image import Image

TIME_MAX = 120.0
"""Seconds that importing the application may take."""
OUTPUT_MAX = 65536


class Rehearsal:
    """One ``gkore --check``, with what it prints."""

    events = POLLIN

    def __init__(self, image: Image, held: Iterable[str]) -> None:
        """OSError when there is no process to be had."""
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        try:
            self.pid = deaths.await_death(image.begin_aside(held, writer))
        except OSError:
            close(self._reader)
            raise
        finally:
            close(writer)
        self.deadline = monotonic() + TIME_MAX
        self.failure: str | None = None
        """Once it is over: what it said, when it failed."""
        self._said = bytearray()
        self._late = False

    def fileno(self) -> int:
        return self._reader

    def act(self, _: int) -> None:
        """Take what it prints; the rest of a flood is dropped."""
        try:
            data = os.read(self._reader, OUTPUT_MAX)
        except BlockingIOError:
            return
        self._said += data[: OUTPUT_MAX - len(self._said)]

    def over(self) -> bool:
        """Whether it has ended; ``failure`` says how. Called on every turn, because SIGCHLD only wakes the loop."""
        status = deaths.ended(self.pid, lost=0x100)
        if status is None:
            if monotonic() > self.deadline and not self._late:
                self._late = True
                os.kill(self.pid, SIGKILL)
            return False
        self.act(POLLIN)
        close(self._reader)
        if status:
            said = self._said.decode("utf-8", "replace").strip()
            late = f"not ready to serve after {TIME_MAX:g} s" if self._late else ""
            self.failure = "\n".join(filter(None, (said, late))) or f"status {os.waitstatus_to_exitcode(status)}"
        return True

    def cancel(self) -> None:
        """The server stops: end it."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, SIGKILL)
        deaths.wait(self.pid)
        close(self._reader)
