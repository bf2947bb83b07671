"""Websocket clients of the live tests, by the ``websockets`` library and by hand, and the application they talk to."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from server import DEADLINE, Server
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close
from websockets.sync.client import ClientConnection, connect

APP = """
import json, os
import kore

seen = []
later = kore.queue()

def tell(c, **what):
    c.websocket_send(kore.WEBSOCKET_OP_TEXT, json.dumps(what))

# echo, with names as in Kore 3

def onconnect(c):
    c.count = 0

def onmessage(c, op, data):
    c.count += 1
    c.websocket_send(op, data)

def ondisconnect(c):
    seen.append(getattr(c, "count", None))

def echo(req):
    req.websocket_handshake("onconnect", "onmessage", "ondisconnect")

# the same, waiting

async def amessage(c, op, data):
    await kore.suspend(1)
    c.websocket_send(op, data)

def aecho(req):
    req.websocket_handshake(None, amessage, None)

# everybody hears everybody, in all workers

def hello(c):
    c.subscribe("all")
    tell(c, pid=os.getpid())

def said(c, op, data):
    if data == "local":
        kore.websocket_broadcast(c, op, data, kore.WEBSOCKET_BROADCAST_LOCAL)
    elif data == "nobody":
        kore.websocket_broadcast(None, op, data, kore.WEBSOCKET_BROADCAST_GLOBAL)
    elif data == "topic":
        kore.websocket_publish("all", op, data, src=c)
    elif data == "leave":
        c.unsubscribe("all")
        tell(c, left=True)
    else:
        kore.websocket_broadcast(c, op, data, kore.WEBSOCKET_BROADCAST_GLOBAL)

def chat(req):
    req.websocket_handshake(hello, said, None)

# mistakes

def wrong(c, op, data):
    if data == "raise":
        raise ZeroDivisionError("on purpose")
    if data == "bad":
        try:
            c.websocket_send(7, b"")
        except TypeError as failure:
            tell(c, failure=str(failure))
    if data == "leave":
        c.disconnect()
    if data == "code":
        c.websocket_close(4001, "because")

def mistakes(req):
    req.websocket_handshake(None, wrong, ondisconnect)

def unconnected(c):
    raise ZeroDivisionError("in onconnect")

def connecting(req):
    req.websocket_handshake(unconnected, None, None)

def unknown(req):
    req.websocket_handshake("nobody", "knows", "these")

def protocols(req):
    req.response_header("x-more", "1")
    req.websocket_handshake(None, onmessage, None, subprotocols=["v2", "v1"])

def plain(req):
    try:
        req.connection.websocket_send(kore.WEBSOCKET_OP_TEXT, b"x")
    except TypeError as failure:
        req.response(200, f"{failure}")

def eager(req):
    req.websocket_handshake(None, onmessage, None)
    req.connection.count = 0
    tell(req.connection, first=True)

# a handler that is still busy when its client speaks

async def late(req):
    req.websocket_handshake(None, onmessage, None)
    req.connection.count = 0
    await later.pop()

def now(req):
    later.push(1)
    req.response(200)

# much

def flood(c, op, data):
    for number in range(int(data)):
        kore.websocket_broadcast(c, kore.WEBSOCKET_OP_BINARY, bytes(100_000), kore.WEBSOCKET_BROADCAST_LOCAL)
    tell(c, done=True)

def flooding(req):
    req.websocket_handshake(None, flood, None)

def pour(c, op, data):
    for number in range(int(data)):
        if not c.websocket_send(kore.WEBSOCKET_OP_BINARY, number.to_bytes(4) + bytes(99_996)):
            return
    tell(c, done=True)

def pouring(req):
    req.websocket_handshake(None, pour, None)

def about(req):
    req.response(200, json.dumps({"pid": os.getpid(), "seen": seen}))
"""
PATHS = ["echo", "aecho", "chat", "mistakes", "connecting", "unknown", "protocols", "plain", "eager", "late", "now"]
PATHS += ["flooding", "pouring", "about"]
CONF = "domain * {\n" + "".join(f"\tstatic /{path} {path}\n" for path in PATHS) + "}\n"
MASK = b"\x01\x02\x03\x04"


def masked(head: int, payload: bytes) -> bytes:
    return bytes((head, 0x80 | len(payload))) + MASK + bytes(b ^ MASK[i % 4] for i, b in enumerate(payload))


def dial(up: Server, path: str = "/echo", **options: object) -> ClientConnection:
    return connect(
        f"ws://127.0.0.1:{up.port}{path}", open_timeout=DEADLINE, legacy=True, **{"max_queue": None, **options}
    )


def hear(client: ClientConnection) -> str | bytes:
    return client.recv(timeout=DEADLINE)


def closed(client: ClientConnection) -> Close:
    """Wait for the end; the Close that the server sent."""
    with pytest.raises(ConnectionClosed) as caught:
        drain(client)
    assert caught.value.rcvd is not None, "the server left without a Close (1006)"
    return caught.value.rcvd


def drain(client: ClientConnection) -> None:
    while True:
        client.recv(timeout=DEADLINE)


def about(up: Server) -> dict[str, object]:
    return json.loads(up.get("/about").body)


@contextmanager
def raw(up: Server, path: str = "/echo", more: bytes = b"", room: int = 0, segment: int = 0) -> Iterator[socket.socket]:
    """A websocket by hand, its 101 read; ``more`` goes out with the handshake.

    ``room`` is the client's buffer and ``segment`` the longest packet, by which the kernel's buffers are measured.
    """
    with socket.socket() as sock:
        sock.settimeout(DEADLINE)
        if room:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        if segment:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        sock.connect(("127.0.0.1", up.port))
        sock.sendall(
            b"GET %b HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n%b" % (path.encode(), more)
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head = sock.recv(4096, socket.MSG_PEEK)
            assert head, "the end instead of an answer"
        head = sock.recv(head.index(b"\r\n\r\n") + 4)
        assert head.startswith(b"HTTP/1.1 101 "), head
        yield sock


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        assert piece, f"the end after {data!r}"
        data += piece
    return data


@contextmanager
def crowd(up: Server, count: int, workers: int) -> Iterator[list[ClientConnection]]:
    """Clients of /chat, so many that every worker has some; each knows its worker's ``pid``."""
    with ExitStack() as stack:
        clients: list[ClientConnection] = []
        while len(clients) < count or len({client.worker for client in clients}) < workers:
            client = stack.enter_context(dial(up, "/chat"))
            client.worker = json.loads(hear(client))["pid"]
            clients.append(client)
            assert len(clients) < 200
        yield clients
