"""What becomes of handlers that raise, say nothing, say too much, or wait; and what ``req`` tells them."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator

import pytest
from server import Server
from server import server as server_of

APP = """
import contextvars
import json
import kore

who = contextvars.ContextVar("who", default="nobody")

def remembers(req):
    before = who.get()
    who.set("somebody")
    req.response(200, before)

async def remembers_later(req):
    before = who.get()
    who.set("somebody")
    await kore.suspend(1)
    req.response(200, before if who.get() == "somebody" else "lost")

class Shop:
    def open(self, req):
        req.response(200, b"open")
    async def wait(self, req):
        await kore.suspend(1)
        req.response(200, b"waited")

shop = Shop()
traced = []
kore.tracer(lambda etype, value, tb: traced.append(etype.__name__))

def about(req):
    req.mark = "mine"
    req.response(200, json.dumps({
        "host": req.host, "path": req.path, "agent": req.agent, "method": req.method, "addr": req.connection.addr,
        "fd": req.connection.fd > 2, "x": req.request_header("X-Thing"), "none": req.request_header("x-none"),
        "mark": req.mark, "worker": kore.worker(), "time": kore.time() > 0, "protocol": req.protocol,
        "headers": sorted(req.headers()),
    }))

def groups(req, *found):
    req.response(200, json.dumps(found))

def body(req):
    first = req.body_read(3)
    rest = req.body_read(100000)
    end = req.body_read(10)
    req.response(200, json.dumps([first[0], first[1].decode(), rest[0], end[0], req.body.decode()]))

def raises(req):
    raise KeyError("lost")

async def raises_later(req):
    await kore.suspend(1)
    raise ValueError("late")

def leaves(req):
    raise SystemExit(3)

def says_nothing(req):
    return kore.RESULT_OK

async def says_nothing_later(req):
    await kore.suspend(1)

def adds(req):
    req.response_header("X-Thing", "first")
    req.response_header("set-cookie", "a=1")
    req.response_header("x-thing", "second")
    req.response_header("Set-Cookie", "b=2")
    req.response(200)

def says_twice(req):
    req.response(200, b"first")
    try:
        req.response(500, b"second")
    except RuntimeError as refusal:
        kore.log(kore.LOG_NOTICE, f"second: {refusal}")

def raises_after(req):
    req.response(200, b"first")
    raise OSError("after")

async def awaits_a_stranger(req):
    import asyncio
    try:
        await asyncio.Future(loop=asyncio.new_event_loop())
    except TypeError as refusal:
        req.response(200, str(refusal))

def tells(req):
    req.response(200, json.dumps(traced))
"""

CONF = """
bind 127.0.0.1 0
workers 1
python_import app.py
domain * {
    static /about about
    static /shop shop.open
    static /wait shop.wait
    route ^/groups/([a-z]+)/([0-9]+)(/x)?$ {
        handler groups
    }
    static /body body
    static /raises raises
    static /raises-later raises_later
    static /leaves leaves
    static /nothing says_nothing
    static /nothing-later says_nothing_later
    static /twice says_twice
    static /after raises_after
    static /stranger awaits_a_stranger
    static /tells tells
    static /adds adds
    static /remembers remembers
    static /remembers-later remembers_later
}
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_of(tmp_path_factory.mktemp("handlers"), CONF, app=APP, workers=1) as running:
        yield running


def test_what_a_request_tells(up: Server) -> None:
    said = json.loads(up.get("/about?a=1", headers={"X-Thing": "a b", "User-Agent": "tester"}).body)
    assert said.pop("host") == f"127.0.0.1:{up.port}"
    assert said == {
        "path": "/about",
        "agent": "tester",
        "method": 1,
        "addr": "127.0.0.1",
        "fd": True,
        "x": "a b",
        "none": None,
        "mark": "mine",
        "worker": 1,
        "time": True,
        "protocol": "http",
        "headers": ["accept-encoding", "host", "user-agent", "x-thing"],
    }


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/shop", 200, b"open"),
        ("/wait", 200, b"waited"),
        ("/groups/ab/12", 200, b'["ab", "12"]'),
        ("/groups/ab/12/x", 200, b'["ab", "12", "/x"]'),
        ("/groups/ab", 404, b""),
        ("/raises", 500, b""),
        ("/raises-later", 500, b""),
        ("/leaves", 500, b""),
        ("/nothing", 500, b""),
        ("/nothing-later", 500, b""),
        ("/twice", 200, b"first"),
        ("/after", 200, b"first"),
    ],
)
def test_outcome_leaves_worker_and_connection_alive(up: Server, path: str, status: int, body: bytes) -> None:
    before = up.workers
    with Client(up) as client:
        assert client.ask(path) == (status, body)
        assert client.ask("/shop") == (200, b"open")
    assert up.workers == before


@pytest.mark.parametrize("path", ["/remembers", "/remembers-later"])
def test_context_variables_are_a_requests_own(up: Server, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", up.port), timeout=20) as sock:
            sock.sendall(request * 4)  # served by one task, one behind the other
            answers = b""
            while answers.count(b"HTTP/1.1 200") < 4 or answers[-4:] == b"\r\n\r\n":
                answers += sock.recv(65536)
        assert answers.count(b"nobody") == 4, answers


def test_a_header_is_replaced_by_its_name_and_cookies_add_up(up: Server) -> None:
    headers = up.get("/adds").headers
    assert headers.get_all("x-thing") == ["second"]
    assert headers.get_all("set-cookie") == ["a=1", "b=2"]


def test_bodies_are_read_in_pieces(up: Server) -> None:
    assert json.loads(up.get("/body", "POST", body=b"abcdefg").body) == [3, "abc", 4, 0, "abcdefg"]


def test_the_tracer_hears_of_everything_uncaught(up: Server) -> None:
    for path in ("/raises", "/raises-later", "/leaves", "/after"):
        up.get(path)
    heard = json.loads(up.get("/tells").body)
    assert heard[-4:] == ["KeyError", "ValueError", "SystemExit", "OSError"]


def test_a_silent_handler_is_named_in_the_log(up: Server) -> None:
    up.get("/nothing")
    up.says(r"handler says_nothing for /nothing ended without calling req\.response")


def test_a_second_response_is_refused(up: Server) -> None:
    up.get("/twice")
    up.says("second: this request was already answered with 200")


def test_a_foreign_awaitable_is_named_with_the_way_out(up: Server) -> None:
    said = up.get("/stranger").body.decode()
    assert "Future" in said
    assert "kore.aio" in said


class Client:
    """One keep-alive connection."""

    def __init__(self, up: Server) -> None:
        self._sock = socket.create_connection(("127.0.0.1", up.port), timeout=20)
        self._file = self._sock.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._sock.close()

    def ask(self, path: str) -> tuple[int, bytes]:
        self._sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        status = int(self._file.readline().split()[1])
        length = 0
        while (line := self._file.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return status, self._file.read(length)


Start = Callable[..., Server]
SCRIPT = """
import sys
import kore

class App:
    def configure(self, args):
        kore.config.workers = 1
        kore.server("main", ip="127.0.0.1", port="0", tls=False)
        kore.domain("*", attach="main")
        self.words = args[1:]

@kore.route("/", methods=["get"])
def root(req):
    req.response(200, " ".join(koreapp.words))

@kore.route("/p", methods=["get"], get={"id": "^[0-9]+$"})
async def parameters(req):
    req.populate_get()
    req.response(200, str(req.argument("id")))

koreapp = App()
"""


def test_script_mode(server: Start) -> None:
    up = server(script=SCRIPT, workers=1, arguments=("one", "two"))
    assert up.get("/").body == b"one two"
    assert up.get("/", "HEAD").status == 200
    assert up.get("/", "POST").status == 405
    assert up.get("/p?id=12").body == b"12"
    assert up.get("/p?id=x").body == b"None"
