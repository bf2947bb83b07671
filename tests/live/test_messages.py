"""What the log says of a limit that is met: which one it was, and what to do; once, and not for every client."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from server import Server, until
from server import server as server_of

CONF = """
http_request_limit 3
http_body_max 20000000
http_body_disk_offload 65536
http_body_disk_path bodies
validator v_any regex .
domain * {
    route / page
    route /wait {
        handler wait
        concurrency 2
    }
    route /wait-too wait
    route /late {
        handler wait
        timeout 1
    }
    route /form {
        handler form
        methods post
        body_max 20000000
        validate post text v_any
    }
}
"""
APP = """
import kore

async def wait(req):
    await kore.suspend(1_000_000)

def page(req):
    req.response(200, b"page")

def form(req):
    req.populate_post()
    req.response(200, b"taken")
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("messages")
    with server_of(folder, CONF, app=APP, workers=1) as running:
        yield running


def ask(up: Server, path: str) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", up.port), timeout=30)
    sock.sendall(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode())
    return sock


def told(up: Server, words: str) -> int:
    return sum(words in line for line in up.log().splitlines())


def test_requests_at_once(up: Server) -> None:
    waiting = [ask(up, "/wait") for _ in range(2)]
    until(lambda: up.get("/wait").status == 503, "two to be inside")
    assert up.get("/wait").status == 503
    up.says(r"log=\[2 requests are in handler wait \(concurrency in its route\): others get 503\]")
    assert told(up, "concurrency in its route") == 1
    waiting += [ask(up, "/wait-too")]
    until(lambda: up.get("/").status == 503, "all tasks to be taken")
    up.says(r"log=\[3 requests are alive \(http_request_limit\): others get 503; `gkore dump` tells")
    for sock in waiting:
        sock.close()
    until(lambda: up.get("/").status == 200, "the tasks to come back")
    assert told(up, "http_request_limit") == 1


def test_a_handler_that_takes_too_long(up: Server) -> None:
    assert up.get("/late").status == 503
    up.says(r"handler wait for /late was ended: 1 s are over \(timeout in its route\); the client gets 503\]")


def test_a_form_that_is_too_large_to_be_read_whole(up: Server) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert up.get("/form", "POST", body=b"text=" + b"x" * 17_000_000, headers=headers).status == 413
    up.says(r"handler form for /form: the client gets 413: an urlencoded form of 17000005 bytes, and 16777216 at most")
    assert up.get("/form", "POST", body=b"text=" + b"x" * 1_000_000, headers=headers).text == "taken"


def test_bodies_that_there_is_no_room_for(up: Server) -> None:
    folder = up.directory / "bodies"
    folder.rmdir()
    try:
        for _ in range(2):
            assert up.get("/form", "POST", body=b"x" * 100_000).status == 500
        up.says(r"bodies of requests can't be kept in bodies \(http_body_disk_path\): No such file or directory; their")
        assert told(up, "http_body_disk_path") == 1
    finally:
        folder.mkdir()
