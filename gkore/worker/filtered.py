"""Requests of servers whose answers are compressed or logged: ``response`` with something before and after it.

Other servers make plain Requests, which know nothing of either.
"""

from __future__ import annotations

from typing import Any

from gkore.compiled import mypyc_attr
from gkore.worker import compression
from gkore.worker.answer import HEAD, LENGTHS, LENGTHS_MAX
from gkore.worker.request import Request
from gkore.worker.streaming import Stream

UNCOMPRESSED = frozenset((*range(100, 200), 204, 206, 304))


@mypyc_attr(allow_interpreted_subclasses=True)
class LoggedRequest(Request):
    """A request whose answer is measured for the access log."""

    def response(self, status: int, body: Any = None) -> bool:
        """As Request.response; the commonest answer is put together here, which spares a call (0.15 us)."""
        if body.__class__ is bytes:
            size = self.sent = len(body)
            connection, line = self.connection, self.line
            if (
                status == 200
                and size < LENGTHS_MAX
                and line.method != HEAD
                and connection.out is None
                and not self.status
            ):
                heads = connection.service.heads
                prefix = (heads.keep if self.keep_alive else heads.close)[line.minor][200]
                extra, end = self._extra, LENGTHS[size]
                data = b"".join((prefix, end, body) if extra is None else (prefix, *extra, end, body))
                self.status = 200
                try:
                    sent: int = connection.sock.send(data)
                except OSError as failure:
                    return connection.write_failed(failure, data)
                return sent == len(data) or connection.write_rest(memoryview(data)[sent:])
        elif body is None or isinstance(body, (str, bytearray, memoryview)):
            body = self._encode(status, body) or b""
            self.sent = len(body)
        return Request.response(self, status, body)


@mypyc_attr(allow_interpreted_subclasses=True)
class FilteredRequest(LoggedRequest):
    """One whose answer is also compressed, where its route wants that."""

    def response(self, status: int, body: Any = None) -> bool:
        """As Request.response."""
        plan = getattr(self, "action", None) and self.action.plan
        if plan is not None and plan.compress and not self.status:
            body = self._compressed(status, body)
        done = LoggedRequest.response(self, status, body)
        if self.stream is not None and plan is not None and plan.compress:
            self._compress_stream(self.stream)
        return done

    def _compress_stream(self, stream: Stream) -> None:
        if stream.status not in UNCOMPRESSED and self._extra:
            lines = list(self._extra)
            coding = compression.agree(self, lines)
            if coding:
                stream.encoder, stream.length = compression.encoder(coding), None
            self._extra = lines

    def _compressed(self, status: int, body: Any) -> Any:
        if status in UNCOMPRESSED or body is None or not self._extra:
            return body
        content = body.encode() if isinstance(body, str) else body
        if isinstance(content, (bytes, bytearray, memoryview)):
            if len(content) < compression.COMPRESS_MIN:
                return content
            lines = list(self._extra)
            coding = compression.agree(self, lines)
            self._extra = lines
            return compression.compress(bytes(content), coding) if coding else content
        return body
