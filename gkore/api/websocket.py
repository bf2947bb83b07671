"""``kore.websocket_broadcast`` and what goes beyond it."""

from __future__ import annotations

from typing import Any

from gkore.worker.broadcast import CLUSTER, GLOBAL, LOCAL, audience, check_topic, payload
from gkore.worker.peer import Peer


def websocket_broadcast(src: Peer | None, op: int, data: Any, scope: int = LOCAL) -> bool:
    """Send a message to all websockets but ``src``'s, of this worker or (GLOBAL) of all; never waits for slow readers.

    ``data`` is str or bytes. TypeError for another op than text and binary, ValueError for another scope. In Kore a
    GLOBAL message reaches this worker's clients twice, and ``src`` once.
    """
    _publish("", op, data, scope, src)
    return True


def websocket_publish(topic: str, op: int, data: Any, scope: int = GLOBAL, src: Peer | None = None) -> bool:
    """Send a message to the websockets that subscribed to ``topic``, of all workers unless ``scope`` says otherwise."""
    check_topic(topic)
    _publish(topic, op, data, scope, src)
    return True


def _publish(topic: str, op: int, data: Any, scope: int, src: Peer | None) -> None:
    if scope not in (LOCAL, GLOBAL, CLUSTER):
        raise ValueError(f"invalid scope {scope!r}: WEBSOCKET_BROADCAST_LOCAL, _GLOBAL or _CLUSTER")
    if src is not None and not isinstance(src, Peer):
        raise TypeError(f"the source of a broadcast is a kore.connection or None, not {src.__class__.__name__}")
    audience().publish(topic, op, payload(op, data), scope, None if src is None else src.websocket)
