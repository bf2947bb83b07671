"""Requests of servers whose answers are compressed or logged: ``response`` with something before and after it.

Other servers make plain Requests, which know nothing of either.
"""

from __future__ import annotations

from typing import Any

from gkore.worker import compression
from gkore.worker.request import Request
from gkore.worker.streaming import Stream

UNCOMPRESSED = frozenset((*range(100, 200), 204, 206, 304))


class LoggedRequest(Request):
    """A request whose answer is measured for the access log."""

    def response(self, status: int, body: Any = None) -> bool:
        """As Request.response."""
        if body.__class__ is bytes:
            self.sent = len(body)
        elif isinstance(body, str):
            self.sent = len(body.encode())
        return Request.response(self, status, body)


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
