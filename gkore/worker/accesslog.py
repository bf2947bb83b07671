"""Access logs: lines are gathered in the worker's journal and written once a second, or once a page is full."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from time import perf_counter_ns, time
from typing import TYPE_CHECKING

from gkore import log
from gkore.logfile import LogFile, log_file
from gkore.protocol.accesslog import JsonLines, Lines, name_client
from gkore.protocol.journal import PAGE, Journal, blank

if TYPE_CHECKING:
    from gkore.worker.request import Request


class AccessLog:
    """One log file of one worker; domains that name the same file share it."""

    __slots__ = ("_file", "_form", "_page", "_tick", "take", "timed")

    def __init__(self, file: LogFile, form: str, worker: int, page: mmap.mmap) -> None:
        self._file = file
        self._page = page
        self._form = form
        self._tick: Callable[[float], None]
        self.timed = form == "json"
        """It tells how long requests took: their ``begun`` must be set."""
        self.take = self._json_taker(worker) if self.timed else self._taker()
        """Note an answered request."""
        self.tick()

    def _taker(self) -> Callable[[Request], None]:
        """``take`` of a log in Kore's or the combined format: a function whose variables stand ready (0.1 us less)."""
        form = Lines(self._form == "combined")
        self._tick = form.tick
        heads, counts, add = form.heads.get, form.counts.get, self._page.write

        def take(request: Request) -> None:
            connection = request.connection
            peer = connection.peer
            # The common case without a call: this runs for every logged request.
            who = peer[0] if connection.service.direct and peer.__class__ is tuple else caller(request)
            line, fields = request.line, request.fields
            count = (request.status, request.sent)
            text = b"".join(
                (
                    heads(who) or form.head(who),
                    line.logged or form.request(line),
                    counts(count) or form.count(count),
                    fields.logged or form.tail(fields),
                )
            )
            try:
                add(text)
            except ValueError:
                self._make_room(text)

        return take

    def _json_taker(self, worker: int) -> Callable[[Request], None]:
        """``take`` of a log of JSON."""
        form = JsonLines(worker)
        self._tick = form.tick
        heads, counts, spans, routes, add = (
            form.heads.get,
            form.counts.get,
            form.spans.get,
            form.routes.get,
            self._page.write,
        )

        def take(request: Request) -> None:
            connection = request.connection
            peer, service = connection.peer, connection.service
            if service.direct and peer.__class__ is tuple:
                who, name = peer[0], request._id or next(service.fleet.ids)
            else:
                who, name = caller(request), request.request_id
            line, fields, route = request.line, request.fields, request.action.path
            count = (request.status, request.sent)
            span = (perf_counter_ns() - request.begun) // 1000
            text = b"".join(
                (
                    heads(who) or form.head(who),
                    line.logged or form.request(line),
                    counts(count) or form.count(count),
                    fields.logged or form.tail(fields),
                    spans(span) or form.span(span),
                    routes(route) or form.route(route),
                    name.encode(),
                    b'"}\n',
                )
            )
            try:
                add(text)
            except ValueError:
                self._make_room(text)

        return take

    def _make_room(self, line: bytes) -> None:
        """The page is full: write it, or at once a line that is longer than any page."""
        self.flush()
        if len(line) > PAGE:
            self._write(line)
        else:
            self._page.write(line)

    def tick(self) -> None:
        """Once a second."""
        self._tick(time())
        self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        used = self._page.tell()
        if used:
            self._write(self._page[:used])
            blank(self._page)

    def _write(self, lines: bytes) -> None:
        try:
            self._file.write(lines)
        except OSError as failure:
            log.error(f"access log {self._file.path}: {failure.strerror}; {len(lines)} bytes are lost")


def caller(request: Request) -> str:
    """Who asked, where that isn't just the other end of the connection."""
    return name_client(request.client, request.connection.certified)


def access_log(path: str, form: str, worker: int, journal: Journal | None) -> AccessLog:
    """The log of one domain; without a journal its lines wait in memory of the worker's own. OSError as open(2)."""
    page = mmap.mmap(-1, PAGE) if journal is None else journal.page(path)
    return AccessLog(log_file(path), form, worker, page)
