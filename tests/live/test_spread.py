"""Long-lived connections are even over the workers, also when one of them was replaced."""

from __future__ import annotations

import http.client
import os
import re
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
metrics 127.0.0.1:0
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


def counted(up: Server) -> int:
    port = int(re.search(r"/ready on http://127.0.0.1:(\d+)", up.log())[1])
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    client.request("GET", "/metrics")
    text = client.getresponse().read().decode()
    client.close()
    return sum(int(count) for count in re.findall(r"^gkore_worker_connections\{.*\} (\d+)$", text, re.MULTILINE))


def even(workers: Counter[int]) -> bool:
    return len(workers) == 4 and all(abs(count - CLIENTS / 4) <= 0.15 * CLIENTS / 4 for count in workers.values())


def fill(up: Server, clients: list[tuple[socket.socket, int]]) -> None:
    """Connect as many as are missing, a few in each beat: within one nothing but the kernel's hash is at work."""
    while len(clients) < CLIENTS:
        clients += [connect(up) for _ in range(min(40, CLIENTS - len(clients)))]
        count = len(clients)
        until(lambda count=count: counted(up) == count, "the connections are counted")


def test_a_thousand_connections_over_four_workers(server: Start) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    up = server(CONF, app=APP, workers=4)
    clients: list[tuple[socket.socket, int]] = []
    fill(up, clients)
    found = Counter(worker for _, worker in clients)
    assert even(found), found
    killed = up.workers[0]
    os.kill(killed, signal.SIGKILL)
    until(lambda: up.log().count(") is ready") == 5, up.log)
    for client, worker in clients:
        if worker == killed:
            client.close()
    clients = [(client, worker) for client, worker in clients if worker != killed]
    fill(up, clients)
    found = Counter(worker for _, worker in clients)
    for client, _ in clients:
        client.close()
    assert even(found), found
