from pathlib import Path

import kore

PAGE = (Path(__file__).parent / "page.html").read_text()

kore.config.websocket_ping = 20
kore.server(ip="127.0.0.1", port="8888", tls=False)
kore.domain("*")


@kore.route("/", methods=["get"])
def index(req: kore.http_request) -> None:
    """The page of the chat."""
    req.response_header("content-type", "text/html; charset=utf-8")
    req.response(200, PAGE)


@kore.route("/chat", methods=["get"])
def chat(req: kore.http_request) -> None:
    """The websocket that the page opens."""
    req.websocket_handshake(came, said, left)


def came(c: kore.connection) -> None:
    c.websocket_send(kore.WEBSOCKET_OP_TEXT, f"You are on worker {kore.worker()}.")


def said(c: kore.connection, op: int, data: str | bytes) -> None:
    kore.websocket_broadcast(c, op, data, kore.WEBSOCKET_BROADCAST_GLOBAL)


def left(c: kore.connection) -> None:
    kore.log(kore.LOG_INFO, f"{c} left")
