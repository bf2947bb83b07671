"""Access logs: lines are gathered and written once a second, or once 64 KiB are there."""

from __future__ import annotations

from time import perf_counter, time
from typing import TYPE_CHECKING

from gkore import log
from gkore.logfile import LogFile, log_file
from gkore.protocol.accesslog import JsonLines, Lines

if TYPE_CHECKING:
    from gkore.worker.request import Request

PIECES_MAX = 2048
"""Pieces that are gathered at most: 256 to 512 lines, about 64 KiB."""


class AccessLog:
    """One log file of one worker; domains that name the same file share it."""

    __slots__ = ("_file", "_form", "_json", "_pieces", "timed")

    def __init__(self, file: LogFile, form: str, worker: int) -> None:
        self._file = file
        self._json = JsonLines(worker) if form == "json" else None
        self.timed = form == "json"
        """It tells how long requests took: their ``begun`` must be set."""
        self._form: Lines | JsonLines = self._json or Lines(form == "combined")
        self._form.tick(time())
        self._pieces: list[bytes] = []

    def take(self, request: Request) -> None:
        """Note an answered request."""
        connection = request.connection
        peer = connection.peer
        # The common case without a property's call: this line runs for every logged request.
        client = peer[0] if peer.__class__ is tuple and connection.service.proxies is None else request.client
        pieces = self._pieces
        pieces += self._form.pieces((client, ""), request.line, request.fields, (request.status, request.sent))
        if self._json is not None:
            seconds = perf_counter() - request.begun
            pieces += self._json.closing(seconds, request.action.path, request.request_id)
        if len(pieces) >= PIECES_MAX:
            self.flush()

    def tick(self) -> None:
        """Once a second."""
        self._form.tick(time())
        if self._pieces:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered; it is lost when the disk is full."""
        data = b"".join(self._pieces)
        self._pieces.clear()
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
