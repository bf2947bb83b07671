"""Websockets are even over the workers, also when one of them was replaced and when its clients are back at once."""

from __future__ import annotations

import base64
import os
import resource
import signal
import socket
from collections import Counter
from collections.abc import Callable

import pytest
from server import DEADLINE, Server, until

Start = Callable[..., Server]

APP = """
import os
import kore

def onconnect(c):
    c.websocket_send(kore.WEBSOCKET_OP_TEXT, str(os.getpid()).encode())

def ws(req):
    req.websocket_handshake(onconnect, None, None)
"""
CONF = """
worker_max_connections 2000
worker_rlimit_nofiles 3000
websocket_timeout 600
domain * {
    route /ws {
        handler ws
    }
}
"""
CLIENTS = 1000
HANDSHAKE = b"\r\n".join(
    (
        b"GET /ws HTTP/1.1",
        b"host: x",
        b"connection: upgrade",
        b"upgrade: websocket",
        b"sec-websocket-version: 13",
        b"sec-websocket-key: " + base64.b64encode(bytes(16)),
        b"\r\n",
    )
)


@pytest.fixture(autouse=True)
def descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))


class Client:
    """A websocket that stays; ``worker`` is the pid that it was told."""

    def __init__(self, up: Server) -> None:
        self.sock = socket.create_connection(("127.0.0.1", up.port), DEADLINE)
        self.sock.sendall(HANDSHAKE)
        self.worker = 0

    def listen(self) -> None:
        said = b""
        while not said.partition(b"\r\n\r\n")[2]:
            piece = self.sock.recv(4096)
            assert piece, "the websocket was closed"
            said += piece
        assert said.startswith(b"HTTP/1.1 101")
        frame = said.partition(b"\r\n\r\n")[2]
        assert frame[:1] == b"\x81"  # a whole text message, RFC 6455 5.2
        self.worker = int(frame[2 : 2 + frame[1]])


def crowd(up: Server, count: int) -> list[Client]:
    """So many clients at once: nobody waits until another one is served."""
    clients = [Client(up) for _ in range(count)]
    for client in clients:
        client.listen()
    return clients


def uneven(clients: list[Client]) -> Counter[int] | None:
    """How many each worker has, when one of four is more than 15 % off."""
    found = Counter(client.worker for client in clients)
    even = len(clients) / 4
    return None if len(found) == 4 and all(abs(count - even) <= 0.15 * even for count in found.values()) else found


def lose(up: Server, clients: list[Client], worker: int) -> list[Client]:
    """Kill a worker; those that are left."""
    os.kill(worker, signal.SIGKILL)
    left = []
    for client in clients:
        if client.worker != worker:
            left.append(client)
            continue
        try:
            assert client.sock.recv(1) == b""
        except ConnectionResetError:
            pass
        client.sock.close()
    return left


def test_a_thousand_websockets_over_four_workers(server: Start) -> None:
    up = server(CONF, app=APP, workers=4)
    clients: list[Client] = []
    try:
        clients = crowd(up, CLIENTS)
        assert uneven(clients) is None, uneven(clients)
        for _ in range(2):  # they are back before the successor is there
            before = up.workers
            clients = lose(up, clients, before[0])
            clients += crowd(up, CLIENTS - len(clients))
            assert uneven(clients) is None, uneven(clients)
            until(lambda before=before: len(up.workers) == 4 and up.workers != before, up.log)
    finally:
        for client in clients:
            client.sock.close()


def test_they_come_one_after_the_other(server: Start) -> None:
    up = server(CONF, app=APP, workers=4)
    clients: list[Client] = []
    try:
        while len(clients) < 200:
            clients += crowd(up, 1)
        assert uneven(clients) is None, uneven(clients)
    finally:
        for client in clients:
            client.sock.close()


def test_who_has_no_successor_is_not_waited_for_for_long(server: Start) -> None:
    """A successor that can't start: its clients are served by the others."""
    app = f"{APP}\ndef kore_worker_configure():\n    if os.path.exists('broken'):\n        raise RuntimeError('no')\n"
    up = server(CONF, app=app, workers=4, tracebacks=True)
    clients: list[Client] = []
    try:
        clients = crowd(up, 400)
        (up.directory / "broken").touch()
        clients = lose(up, clients, up.workers[0])
        clients += crowd(up, 400 - len(clients))
        assert len({client.worker for client in clients}) == 3
    finally:
        for client in clients:
            client.sock.close()
