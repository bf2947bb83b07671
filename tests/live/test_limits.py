"""Limits of routes: bodies, time, requests at once, rates; in the conf and as keywords of the decorator."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from server import Server, until
from server import server as server_of

APP = """
import kore
import time

ended = []
gate = None

def kore_worker_configure():
    global gate
    gate = kore.queue()

def page(req):
    req.response(200, str(len(req.body)))

async def slow(req):
    try:
        await kore.suspend(1_000_000)
    finally:
        ended.append("async")

def slow_plain(req):
    try:
        time.sleep(1000)
    except Exception:
        req.response(200, b"an Exception handler must not stop it")
    finally:
        ended.append("plain")

def slow_after(req):
    req.response(200, b"answered in time")
    time.sleep(1000)

async def gated(req):
    ended.append("entered")
    await gate.pop()
    req.response(200, b"done")

def release(req):
    gate.push(1)
    req.response(200, b"")

def tell(req):
    req.response(200, " ".join(ended))

def stuck(req):
    def pieces():
        try:
            for number in range(3):
                yield f"piece {number} "
            time.sleep(1000)
            yield "too late"
        finally:
            ended.append("stuck")
    req.response(200, pieces())

async def stuck_async(req):
    async def pieces():
        try:
            yield "piece 0 piece 1 piece 2 "
            try:
                await kore.suspend(1_000_000)
            except Exception:
                yield "an Exception handler must not stop it"
        finally:
            ended.append("stuck-async")
    req.response(200, pieces())

def stuck_end(req):
    def pieces():
        try:
            yield "piece 0 piece 1 piece 2 "
        finally:
            ended.append("stuck-end")
            time.sleep(1000)
    req.response(200, pieces())

async def flowing(req):
    async def pieces():
        for number in range(8):
            await kore.suspend(200)
            yield f"{number} "
    req.response(200, pieces())

def refuse(req, value):
    return value == "yes"
"""

CONF = """
http_body_max 1000
http_request_limit 50
validator v function refuse
authentication guarded {
    authentication_type header
    authentication_value x-in
    authentication_validator v
}
domain * {
    route /small {
        handler page
        body_max 10
    }
    route /large {
        handler page
        body_max 100000
    }
    route /none {
        handler page
        body_max 0
    }
    route /usual {
        handler page
    }
    route /slow {
        handler slow
        timeout 1
    }
    route /slow-plain {
        handler slow_plain
        timeout 1
    }
    route /slow-after {
        handler slow_after
        timeout 1
    }
    route /stuck {
        handler stuck
        timeout 1
    }
    route /stuck-async {
        handler stuck_async
        timeout 1
    }
    route /stuck-end {
        handler stuck_end
        timeout 1
    }
    route /flowing {
        handler flowing
        timeout 1
    }
    route /gated {
        handler gated
        concurrency 2
        authenticate guarded
    }
    route /release {
        handler release
    }
    route /tell {
        handler tell
    }
    route /rate {
        handler page
        rate 3/h
    }
    route /fast {
        handler page
        rate 1000/s
    }
}
"""


@pytest.fixture
def up(server) -> Server:
    return server(CONF, app=APP, workers=1, tracebacks=True)


def test_body_max(up: Server) -> None:
    for path, size, status in (
        ("/small", 10, 200),
        ("/small", 11, 413),
        ("/large", 100_000, 200),
        ("/large", 100_001, 413),
        ("/none", 0, 200),
        ("/none", 1, 413),
        ("/usual", 1000, 200),
        ("/usual", 1001, 413),
    ):
        assert up.get(path, "POST", body=b"x" * size).status == status, (path, size)
        chunked = (b"x" for _ in range(min(size, 2000)))
        if size < 2000:
            answer = up.get(path, "POST", body=chunked, encode_chunked=True, headers={"transfer-encoding": "chunked"})
            assert answer.status == status, (path, size, "chunked")


def test_no_bodies_at_all(server) -> None:
    up = server("http_body_max 0\ndomain * {\nroute / {\nhandler page\n}\n}\n", app=APP, workers=1)
    assert up.get("/", "POST", body=b"").status == 200
    assert up.get("/", "POST", body=b"x").status == 405
    assert up.get("/", "DELETE").status == 200


@pytest.mark.parametrize(("path", "name"), [("/slow", "async"), ("/slow-plain", "plain")])
def test_timeout(up: Server, path: str, name: str) -> None:
    answer = up.get(path)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert up.get("/tell").text == name
    up.says(r"was ended: .* \(timeout in its route\); the client gets 503")


def test_timeout_after_the_answer(up: Server) -> None:
    with socket.create_connection(("127.0.0.1", up.port), timeout=30) as client:
        for _ in range(2):  # the connection goes on
            client.sendall(b"GET /slow-after HTTP/1.1\r\nhost: a\r\n\r\n")
            assert client.recv(1000).endswith(b"answered in time")
    up.says("slow_after for /slow-after was ended")


@pytest.mark.parametrize("path", ["/stuck", "/stuck-async", "/stuck-end"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_stream_that_hangs_is_cut_off(stuck: Server, path: str, version: str) -> None:
    answer = b""
    with socket.create_connection(("127.0.0.1", stuck.port), timeout=30) as client:
        client.sendall(f"GET {path} HTTP/{version}\r\nhost: a\r\n\r\n".encode())
        try:
            while piece := client.recv(65536):
                answer += piece
        except ConnectionResetError:  # how 1.0 can tell
            assert version == "1.0"
    assert answer.startswith(b"HTTP/1.1 200" if version == "1.1" else b"HTTP/1.0 200") or version == "1.0"
    assert version == "1.0" or answer.count(b"piece ") == 3
    assert not answer.endswith(b"0\r\n\r\n"), "it must not look whole"
    until(lambda: path.removeprefix("/") in stuck.get("/tell").text.split(), "the generator to be closed")
    stuck.says(rf"the body of {path} .* was cut off after 24 bytes")


@pytest.fixture(scope="module")
def stuck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_of(tmp_path_factory.mktemp("stuck"), CONF, app=APP, workers=1) as running:
        yield running


def test_a_stream_that_flows_may_take_longer_than_its_timeout(stuck: Server) -> None:
    assert stuck.get("/flowing").text == "0 1 2 3 4 5 6 7 "


def test_concurrency(up: Server) -> None:
    inside = {"x-in": "yes"}
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(up.get("/gated", headers=inside).status)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    until(lambda: up.get("/tell").text == "entered entered", "two to be inside")
    refused = up.get("/gated", headers=inside)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    for _ in range(2):
        up.get("/release")
    for thread in threads:
        thread.join(30)
    assert answers == [200, 200]
    for _ in range(3):
        assert up.get("/gated").status == 403  # whom a later gate refuses gives the place back
    for _ in range(3):
        up.get("/release")
    for _ in range(3):
        assert up.get("/gated", headers=inside).status == 200


def test_concurrency_of_clients_that_left(up: Server) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", up.port), timeout=30) as client:
            client.sendall(b"GET /gated HTTP/1.1\r\nhost: a\r\nx-in: yes\r\n\r\n")
    up.get("/release")
    until(lambda: up.get("/gated", headers={"x-in": "no"}).status == 403, "their places")


def test_rate(up: Server) -> None:
    assert [up.get("/rate").status for _ in range(5)] == [200, 200, 200, 429, 429]
    assert 1000 < int(up.get("/rate").headers["retry-after"]) <= 1200
    assert {up.get("/fast").status for _ in range(50)} == {200}
    other = socket.create_connection(("127.0.0.1", up.port), timeout=30, source_address=("127.0.0.2", 0))
    with other as client:
        client.sendall(b"GET /rate HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_keywords(server) -> None:
    script = """
import kore
kore.server(ip="127.0.0.1", port="0", tls=False)
kore.domain("*", attach="default")

@kore.route("/", body_max=5, timeout=1, concurrency=1, rate="2/h", http_compress=True)
async def page(req):
    if req.body == b"wait":
        await kore.suspend(100_000)
    req.response(200, b"")

failures = []
for keywords in ({"rate": "fast"}, {"timeout": 0}, {"body_max": -1}, {"concurrency": "x"}, {"rates": "1/s"}):
    try:
        kore.route("/", **keywords)(page)
    except (RuntimeError, TypeError) as failure:
        failures.append(str(failure))

@kore.route("/failures")
def tell(req):
    req.response(200, "|".join(failures))
"""
    up = server(script=script, workers=1)
    assert up.get("/", "POST", body=b"123456").status == 413
    assert up.get("/", "POST", body=b"wait").status == 503
    assert [up.get("/").status for _ in range(2)] == [200, 429]
    said = up.get("/failures").text.split("|")
    assert len(said) == 5
    assert "10/s" in said[0]
    assert "did you mean 'rate'" in said[4]


def test_too_many_requests_at_once(up: Server) -> None:
    clients = [socket.create_connection(("127.0.0.1", up.port), timeout=30) for _ in range(60)]
    for client in clients:
        client.sendall(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
    statuses = [client.recv(1000).split()[1] for client in clients]
    for client in clients:
        client.close()
    assert set(statuses) == {b"503"}
    assert up.get("/usual").status == 200


def test_a_bucket() -> None:
    from gkore.conf.site import Rate
    from gkore.worker.limits import ADDRESSES_MAX, TokenBuckets, client_key

    buckets = TokenBuckets(Rate(2, 1))
    assert [buckets.take("a", now) for now in (0.0, 0.0, 0.25)] == [0, 0, 0.25]
    assert buckets.take("a", 0.5) == 0
    assert buckets.take("a", 100.0) == 0
    for number in range(ADDRESSES_MAX + 10):
        buckets.take(str(number), 200.0)
    assert len(buckets._buckets) <= ADDRESSES_MAX
    assert client_key("192.0.2.1") == "192.0.2.1"
    assert client_key("2001:db8::1") == client_key("2001:db8::ffff") != client_key("2001:db8:1::1")
    assert client_key("fe80::1%eth0") == client_key("fe80::2%eth1")
