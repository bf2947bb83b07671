"""llhttp as the judge of requests: it reads every byte and says nothing but "malformed" and "that was one".

What it says of a whole request depends on its bytes only: between two requests it holds no state.
"""

from __future__ import annotations

import re

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpRequestParser

from gkore.errors import ProtocolError

UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_UNKNOWN_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?: |\Z)")


class Judge:
    """llhttp, told to say nothing but "that was a whole message": the ``pop`` of ``pending`` is its only callback.

    A list's own method as callback costs no Python frame; popping an empty list raises, so one message more than was
    expected is an error too.
    """

    __slots__ = ("feed", "on_message_complete", "pending")

    def __init__(self) -> None:
        self.pending: list[None] = [None]
        self.on_message_complete = self.pending.pop
        self.feed = HttpRequestParser(self).feed_data


def verdict(stop: HttpParserError, data: bytes) -> ProtocolError:
    """What to answer when llhttp refuses ``data``: 400, 501 for the method, 505 for the version."""
    text = str(stop)
    if isinstance(stop, HttpParserInvalidMethodError) and _UNKNOWN_METHOD.match(data.lstrip(b"\r\n")):
        return ProtocolError(501, "method not implemented")
    if "Invalid HTTP version" in text:
        return ProtocolError(505, "HTTP version not supported")
    return ProtocolError(400, text or "malformed request")
