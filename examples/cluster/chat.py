import kore


def chat(req: kore.http_request) -> None:
    """One client."""
    req.websocket_handshake(None, said, None)


def said(c: kore.connection, op: int, data: str | bytes) -> None:
    kore.websocket_broadcast(c, op, data, kore.WEBSOCKET_BROADCAST_CLUSTER)
