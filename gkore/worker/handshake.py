"""From a request to a websocket: ``req.websocket_handshake``.

The 101 is sent at once, so that the handler may already send messages; what the client says is kept until the handler
has returned, and then its task goes on with onconnect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gkore.conf.application import current
from gkore.errors import ProtocolError
from gkore.protocol.upgrade import upgrade
from gkore.worker.broadcast import audience
from gkore.worker.websocket import Callbacks, Websocket

if TYPE_CHECKING:
    from gkore.worker.request import Request

_resolved: dict[tuple[Any, ...], Callbacks] = {}
"""Callbacks by what the application calls them; applications have few."""
RESOLVED_MAX = 256


def callbacks(*named: Any) -> Callbacks:
    """Callbacks by name (Kore 3) or themselves (Kore 4), None for none. LookupError or TypeError for anything else."""
    found = _resolved.get(named)
    if found is None:
        found = Callbacks(*(resolve(name) for name in named))
        if len(_resolved) >= RESOLVED_MAX:
            _resolved.clear()
        _resolved[named] = found
    return found


def resolve(named: Any) -> Any:
    if named is None or callable(named):
        return named
    if isinstance(named, str):
        return current().function(named)
    raise TypeError(f"a websocket callback is a function, its name or None, not {named.__class__.__name__}")


def handshake(request: Request, wanted: Callbacks, subprotocols: Sequence[str] = ()) -> Websocket | None:
    """Make the request's connection a websocket; None when it must not become one: then the answer is sent."""
    everybody = audience()
    try:
        agreed = upgrade(request, everybody.origins, everybody.compress, subprotocols)
    except ProtocolError as refusal:
        request.fail(refusal.status, refusal.headers)
        return None
    connection = request.connection
    if connection.out is not None:
        connection.uncork()
    request.switch(agreed.fields)
    websocket = Websocket(connection, everybody, wanted, agreed.deflate)
    websocket.subprotocol = agreed.subprotocol
    connection.websocket = websocket
    connection.__dict__["websocket_send"] = websocket.send  # one call less for every message
    if connection.lost:
        return websocket
    everybody.join(websocket)
    parser = connection.parser
    early = (parser.leftover if parser is not None else b"") + connection.stash
    connection.stash = b""
    connection.watcher.stop()
    connection.watcher.start(websocket.readable)
    if early:
        websocket.take(early)
    return websocket
