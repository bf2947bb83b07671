"""Clients that are slow, silent, greedy or many: each meets its deadline or limit, and others do not notice."""

from __future__ import annotations

import os
import resource
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from server import Server, opened, until

Start = Callable[..., Server]

APP = """
import kore

def hello(req):
    req.response(200, b"hello")

def large(req):
    req.response(200, b"x" * 50_000_000)

def body(req):
    req.response(200, str(len(req.body)))

async def wait(req):
    await kore.suspend(600)
    req.response(200, b"waited")

ended = []
async def watched(req):
    try:
        await kore.suspend(60_000)
    finally:
        kore.log(kore.LOG_NOTICE, "the watched handler was ended")
"""
CONF = """
bind 127.0.0.1 0
python_import app.py
http_header_timeout 1
http_body_timeout 1
http_keepalive_time 1
http_write_timeout 1
{more}
domain * {{
    static /hello hello
    static /large large
    static /body body
    static /wait wait
    static /watched watched
}}
"""
PATIENT = CONF.replace("_timeout 1", "_timeout 60").replace("_time 1", "_time 60")
HELLO = b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"


def start(server: Start, more: str = "", **options: object) -> Server:
    return server(CONF.format(more=more), app=APP, workers=1, **options)


def dial(up: Server, sent: bytes = b"") -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", up.port), timeout=20)
    sock.sendall(sent)
    return sock


def everything(sock: socket.socket) -> bytes:
    """What the server sends until it closes."""
    said = b""
    with sock:
        while piece := sock.recv(65536):
            said += piece
    return said


SLOW = {
    b"GET /hello HT": b"HTTP/1.1 408 ",
    b"GET /hello HTTP/1.1\r\nHost: h\r\nX-Slow: ": b"HTTP/1.1 408 ",
    b"POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc": b"HTTP/1.1 408 ",
    b"POST /body HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab": b"HTTP/1.1 408 ",
    b"": b"",
    b"\r\n": b"",
}


def test_slow_senders_are_answered_and_closed(server: Start) -> None:
    up = start(server)
    socks = [(sent, status, dial(up, sent)) for sent, status in SLOW.items()]
    for sent, status, sock in socks:
        said = everything(sock)
        assert said.startswith(status), (sent, said)
        assert bool(said) == bool(status), (sent, said)
    assert up.get("/hello").body == b"hello"


def test_a_trickle_does_not_extend_the_deadline(server: Start) -> None:
    up = start(server)
    with dial(up, b"GET /hello HTTP/1.1\r\n") as sock:
        for _ in range(200):
            sock.sendall(b"x: y\r\n")
            if select.select([sock], [], [], 0.05)[0]:
                break
        assert sock.recv(100).startswith(b"HTTP/1.1 408 ")


def test_idle_connections_are_closed_silently(server: Start) -> None:
    up = start(server)
    said = everything(dial(up, HELLO))
    assert said.count(b"HTTP/1.1 200 OK") == 1
    assert said.endswith(b"hello")


def test_a_reader_that_does_not_read_is_cut_off(server: Start) -> None:
    up = start(server)
    (worker,) = up.workers
    idle = len(opened(worker))
    with dial(up, b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n") as sock:
        assert sock.recv(1, socket.MSG_PEEK), "it was accepted, and there is more than the socket's buffers take"
        until(lambda: len(opened(worker)) == idle, "the connection to be closed")
        assert up.get("/hello").body == b"hello"


def test_a_client_that_leaves_ends_its_coroutine(server: Start) -> None:
    up = start(server)
    dial(up, b"GET /watched HTTP/1.1\r\nHost: h\r\n\r\n").close()
    up.says("the watched handler was ended")


def test_what_comes_behind_a_waiting_request_is_kept(server: Start) -> None:
    up = start(server)
    with dial(up, b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n") as sock:
        time.sleep(0.05)  # apart from the first packet, so that it finds the handler waiting; nothing depends on it
        sock.sendall(HELLO)
        said = b""
        while not said.endswith(b"hello"):
            said += sock.recv(65536)
    assert said.index(b"waited") < said.index(b"hello")


def test_earlier_answers_of_a_pipeline_do_not_wait_for_a_slow_handler(server: Start) -> None:
    up = start(server)
    with dial(up, HELLO * 3 + b"GET /watched HTTP/1.1\r\nHost: h\r\n\r\n") as sock:
        said = b""
        while said.count(b"hello") < 3:
            said += sock.recv(65536)


def test_request_limit(server: Start) -> None:
    up = start(server, "http_request_limit 2")
    waiting = [dial(up, b"GET /watched HTTP/1.1\r\nHost: h\r\n\r\n") for _ in range(2)]
    until(lambda: up.get("/hello").status == 503, "both tasks to be taken")
    for sock in waiting:
        sock.close()
    until(lambda: up.get("/hello").status == 200, "the tasks to come back")


def test_connection_limit_makes_others_wait_and_not_fail(server: Start) -> None:
    up = start(server, "worker_max_connections 2\nhttp_header_timeout 20")
    held = [dial(up) for _ in range(2)]
    for sock in held:
        sock.sendall(b"GET /hel")
    third = dial(up, HELLO)
    assert not select.select([third], [], [], 0.2)[0], "the third connection was served though two were the limit"
    held[0].close()
    assert third.recv(100).startswith(b"HTTP/1.1 200 OK")
    third.close()
    held[1].close()


def test_a_shortage_of_descriptors_is_survived(server: Start) -> None:
    up = start(server, "worker_max_connections 1000\nhttp_header_timeout 20")
    (worker,) = up.workers
    few = len(opened(worker)) + 10
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (few, resource.prlimit(worker, resource.RLIMIT_NOFILE)[1]))
    socks = [dial(up) for _ in range(40)]
    up.says("raise worker_rlimit_nofiles")
    for sock in socks:
        sock.close()
    until(lambda: up.get("/hello").body == b"hello", "the server to recover")


def test_body_limit(server: Start) -> None:
    up = start(server, "http_body_max 10")
    assert up.get("/body", "POST", body=b"x" * 10).body == b"10"
    assert up.get("/body", "POST", body=b"x" * 11).status == 413


def test_garbage_from_many_at_once_hurts_nobody(server: Start) -> None:
    up = start(server)
    before = up.workers
    for number in range(200):
        with dial(up) as sock:
            sock.sendall(os.urandom(number * 7 + 1))
    assert up.get("/hello").body == b"hello"
    assert up.workers == before


def test_keepalive_time_0_closes_after_every_answer(server: Start) -> None:
    up = server(CONF.format(more="").replace("keepalive_time 1", "keepalive_time 0"), app=APP, workers=1)
    said = everything(dial(up, HELLO))
    assert b"connection: close" in said
    assert said.endswith(b"hello")


def test_a_full_worker_lets_go_of_those_that_wait_longest(server: Start) -> None:
    conf = PATIENT.replace("domain * {{", "domain * {{\n    accesslog access.log")
    up = server(conf.format(more="worker_max_connections 4"), app=APP, workers=1)
    reader = dial(up, b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
    assert reader.recv(12) == b"HTTP/1.1 200"
    body = dial(up, b"POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n1")
    head = dial(up, b"GET /hel")
    idle = dial(up, HELLO)
    assert idle.recv(1000).endswith(b"hello")
    served = [dial(up, b"GET /watched HTTP/1.1\r\nHost: h\r\n\r\n") for _ in range(4)]
    assert everything(idle) == b""
    assert everything(head).startswith(b"HTTP/1.1 408 ")
    assert everything(body).startswith(b"HTTP/1.1 408 ")
    up.says("4 connections, and more want in: those that wait longest make room")
    log = up.directory / "access.log"
    until(lambda: log.exists() and '"POST /body HTTP/1.1" 408 0 ' in log.read_text(), "the line of who was too slow")
    with suppress(ConnectionResetError):
        assert len(everything(reader)) < 50_000_000
    fourth = dial(up, HELLO)
    assert not select.select([*served, fourth], [], [], 0.2)[0], "who is served was let go"
    served.pop().close()
    assert fourth.recv(1000).endswith(b"hello")
    for sock in (fourth, *served):
        sock.close()
