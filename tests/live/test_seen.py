"""Requests that are answered without being read again, because the same bytes came before: nothing else may change."""

from __future__ import annotations

import socket
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from server import Server
from server import server as running

APP = textwrap.dedent(
    """
    import kore

    gate = kore.lock()

    def here(req):
        req.response_header("content-type", "text/plain")
        req.response(200, req.host + req.path)

    async def waits(req):
        await kore.suspend(20)
        req.response(200, req.path)

    def body(req):
        req.response(200, req.body)

    def dies(req):
        raise ValueError("on purpose")
    """
)
CONF = """
domain a.test {
    attach default
    route / {
        handler here
    }
    route /waits {
        handler waits
    }
    route /body {
        handler body
        methods post
    }
    route /dies {
        handler dies
    }
}
domain b.test {
    attach default
    route / {
        handler here
    }
}
"""


def get(path: str = "/", host: str = "a.test", *fields: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"host: {host}", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


POST = b"POST /body HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n\r\nhello"


class Line:
    """A client's end, and the answers that it reads."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.file = sock.makefile("rb")

    def answer(self) -> tuple[int, bytes]:
        """Status and body; (0, b"") at the end."""
        words = self.file.readline().split()
        if not words:
            return 0, b""
        length = 0
        while (line := self.file.readline().lower()) not in (b"\r\n", b""):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return int(words[1]), self.file.read(length)

    def ask(self, data: bytes, count: int = 1) -> list[tuple[int, bytes]]:
        self.sock.sendall(data)
        return [self.answer() for _ in range(count)]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("seen"), CONF, app=APP, workers=1, tracebacks=True) as server:
        yield server


@pytest.fixture
def line(up: Server) -> Iterator[Line]:
    with socket.create_connection(("127.0.0.1", up.port), 30) as sock:
        yield Line(sock)


def test_again_and_again(line: Line) -> None:
    for _ in range(5):
        assert line.ask(get()) == [(200, b"a.test/")]
        assert line.ask(get(host="b.test")) == [(200, b"b.test/")]
        assert line.ask(get("/nowhere")) == [(404, b"")]
        assert line.ask(get("/body")) == [(405, b"")]
        assert line.ask(get("/dies"))[0][0] == 500
        assert line.ask(POST) == [(200, b"hello")]


def test_in_pieces_and_in_pipelines(line: Line) -> None:
    line.ask(get() * 4, 4)
    first, rest = get()[:20], get()[20:]
    line.sock.sendall(first)
    assert line.ask(rest + get() + POST + get("/waits") + get() + first, 5) == [
        (200, b"a.test/"),
        (200, b"a.test/"),
        (200, b"hello"),
        (200, b"/waits"),
        (200, b"a.test/"),
    ]
    assert line.ask(rest) == [(200, b"a.test/")]


def test_what_comes_while_one_is_served(line: Line) -> None:
    for _ in range(4):
        assert line.ask(get("/waits")) == [(200, b"/waits")]
    line.sock.sendall(get("/waits"))
    assert line.ask(get() + get("/waits"), 3) == [(200, b"/waits"), (200, b"a.test/"), (200, b"/waits")]
    assert line.ask(get()) == [(200, b"a.test/")]


def test_the_last_one_says_so(up: Server) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", up.port), 30) as sock:
            client = Line(sock)
            assert client.ask(get("/", "a.test", "connection: close"), 2) == [(200, b"a.test/"), (0, b"")]
        with socket.create_connection(("127.0.0.1", up.port), 30) as sock:  # what comes behind a close is not looked at
            client = Line(sock)
            assert client.ask(get("/", "a.test", "connection: close") + get(), 2) == [(200, b"a.test/"), (0, b"")]


def test_nonsense_behind_what_was_seen(line: Line) -> None:
    for _ in range(4):
        assert line.ask(get()) == [(200, b"a.test/")]
    assert line.ask(get() + b"nonsense\r\n\r\n", 3) == [(200, b"a.test/"), (400, b""), (0, b"")]


def test_more_requests_than_are_remembered(line: Line) -> None:
    for number in range(1100):
        data = get("/", "a.test", f"x-number: {number}")
        assert line.ask(data * 4, 4) == [(200, b"a.test/")] * 4
    assert line.ask(get()) == [(200, b"a.test/")]
