"""Long-lived connections are even over the workers, also when one of them was replaced."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections import Counter
from collections.abc import Callable

from server import DEADLINE, Server, until

Start = Callable[..., Server]

APP = """
import os
import kore

def pid(req):
    req.response(200, str(os.getpid()).encode())
"""
CONF = """
worker_max_connections 2000
worker_rlimit_nofiles 3000
http_keepalive_time 600
domain * {
    route /pid {
        handler pid
    }
}
"""
CLIENTS = 1000


def connect(up: Server) -> tuple[socket.socket, int]:
    """A connection that stays, and the worker that has it."""
    client = socket.create_connection(("127.0.0.1", up.port), DEADLINE)
    client.sendall(b"GET /pid HTTP/1.1\r\nhost: x\r\n\r\n")
    return client, int(client.recv(1000).rpartition(b"\r\n")[2])


def even(workers: Counter[int]) -> bool:
    return len(workers) == 4 and all(abs(count - CLIENTS / 4) <= 0.15 * CLIENTS / 4 for count in workers.values())


def test_a_thousand_connections_over_four_workers(server: Start) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    up = server(CONF, app=APP, workers=4)
    clients = [connect(up) for _ in range(CLIENTS)]
    assert even(Counter(worker for _, worker in clients))
    killed = up.workers[0]
    os.kill(killed, signal.SIGKILL)
    until(lambda: up.log().count(") is ready") == 5, up.log)
    staying = [(client, worker) for client, worker in clients if worker != killed]
    for client, worker in clients:
        if worker == killed:
            client.close()
    staying += [connect(up) for _ in range(CLIENTS - len(staying))]
    found = Counter(worker for _, worker in staying)
    for client, _ in staying:
        client.close()
    assert even(found), found
