"""Access logs: lines are gathered and written once a second, or once 64 KiB are there."""

from __future__ import annotations

from time import perf_counter, time
from typing import TYPE_CHECKING

from gkore import log
from gkore.logfile import LogFile, log_file
from gkore.protocol.accesslog import Entry, JsonLines, Lines

if TYPE_CHECKING:
    from gkore.worker.request import Request

LINES_MAX = 256
"""Lines that are gathered at most: of the usual 150 to 250 bytes they make 64 KiB."""


class AccessLog:
    """One log file of one worker; domains that name the same file share it."""

    __slots__ = ("_file", "_form", "_lines", "timed")

    def __init__(self, file: LogFile, form: str, worker: int) -> None:
        self._file = file
        self.timed = form == "json"
        """Requests need the moment at which they began."""
        self._form: Lines | JsonLines = JsonLines(worker) if self.timed else Lines(form == "combined")
        self._form.tick(time())
        self._lines: list[bytes] = []

    def take(self, request: Request) -> None:
        """Note an answered request."""
        peer = request.connection.peer
        entry = Entry(
            request.line,
            request.fields,
            request.status,
            request.sent,
            peer[0] if request.connection.service.proxies is None and peer.__class__ is tuple else request.client,
        )
        if self.timed:
            entry.seconds = perf_counter() - request.begun
            entry.route = request.action.path
            entry.request_id = request.request_id
        lines = self._lines
        lines.append(self._form.line(entry))
        if len(lines) >= LINES_MAX:
            self.flush()

    def tick(self) -> None:
        """Once a second."""
        self._form.tick(time())
        if self._lines:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered; it is lost when the disk is full."""
        data = b"".join(self._lines)
        self._lines.clear()
        try:
            self._file.write(data)
        except OSError as failure:
            log.error(f"access log {self._file.path}: {failure.strerror}; {len(data)} bytes are lost")

    def reopen(self) -> None:
        """After a rotation (SIGUSR1)."""
        self.flush()
        try:
            self._file.reopen()
        except OSError as failure:
            log.error(f"can't reopen {self._file.path}: {failure.strerror}; the old file is written on")


def access_log(path: str, form: str, worker: int) -> AccessLog:
    """The log of one domain. OSError as open(2)."""
    return AccessLog(log_file(path), form, worker)
