"""The head of one request, as the parser fills it; the worker's ``Request`` is one with more to say.

Values that nearly every request leaves alone live on the class, so that making a head costs one call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gkore.compiled import mypyc_attr
from gkore.protocol.fields import Fields
from gkore.protocol.line import RequestLine

Seen = tuple[RequestLine, Fields, Any, bool]
"""What the bytes of one whole request meant: line, fields, action, keep_alive."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Head:
    """Request line, header fields and (when it is whole) the body of one request."""

    line: RequestLine
    fields: Fields
    keep_alive: bool = True
    upgrade: bool = False
    """The client asks for the websocket protocol and the bytes after this head may be frames."""
    expects_continue: bool = False
    content: bytes = b""
    """The body, when it is kept in memory."""
    sink: Callable[[bytes], None] | None = None
    """Takes the pieces of the body as they come, instead of ``content``: a file, a hook."""
    limit: int = 0
    """How many body bytes there may be."""
    action: Any = None
    """What answers it, once that is known."""
    chunk: bytes = b""
    """All of its bytes, where the same bytes will always be the same request: they may be remembered."""
