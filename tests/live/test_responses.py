"""What reaches the client: body types, streams, files, errors on the way; compression."""

from __future__ import annotations

import gzip
import http.client
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import Server, opened, until
from server import server as server_of

APP = """
import io
import os
import kore

closed = []
items = kore.queue()

BODIES = {
    "bytes": b"abc",
    "str": "äbc",
    "none": None,
    "bytearray": bytearray(b"abc"),
    "memoryview": memoryview(b"abc"),
    "list": [b"a", "b", b"", bytearray(b"c")],
    "empty": [],
    "tuple": ("a", "bc"),
    "bytesio": io.BytesIO(b"abc"),
    "stringio": io.StringIO("abc"),
    "dict": {"a": 1},
    "int": 7,
    "object": object(),
    "numbers": [1, 2],
    "later": [b"a", 2],
}

def body(req, kind):
    value = BODIES[kind]
    if hasattr(value, "seek"):
        value = value.__class__(value.getvalue())
    req.response(int(req.request_header("x-status") or 200), value)

def generator(req):
    def items():
        try:
            for n in range(5):
                yield f"{n} "
        finally:
            closed.append("generator")
    req.response(200, items())

async def async_generator(req):
    async def items():
        try:
            for n in range(5):
                await kore.suspend(1)
                yield f"{n} "
        finally:
            closed.append("async")
    req.response(200, items())

def failing(req):
    def items():
        yield b"begun"
        raise ValueError("in the middle")
    req.response(200, items())

def endless(req):
    def items():
        try:
            while True:
                yield b"x" * 65536
        finally:
            closed.append("endless")
    req.response(200, items())

async def waiting(req):
    async def items():
        try:
            yield b"begun"
            await kore.suspend(1_000_000)
        finally:
            closed.append("waiting")
    req.response(200, items())

def events(req):
    req.response_header("content-type", "text/event-stream")
    async def items():
        while True:
            yield f"data: {await feed.pop()}\\n\\n"
    req.response(200, items())

feed = None
def kore_worker_configure():
    global feed
    feed = kore.queue()

def push(req):
    feed.push(req.query)
    req.response(200, b"")

def tell(req):
    req.response(200, " ".join(closed))

def file(req):
    opened = open("large.bin", "rb")
    opened.seek(10)
    req.response(200, opened)

def twice(req):
    req.response(200, ["first"])
    for again in (lambda: req.response(200, b"second"), lambda: req.response_header("a", "b")):
        try:
            again()
        except RuntimeError:
            closed.append("refused")

def after(req):
    req.response(200, ["kept"])
    raise ValueError("after the answer")

def inject(req):
    try:
        req.response_header("x-a", "b\\r\\nset-cookie: evil=1")
    except ValueError as failure:
        req.response(200, str(failure))

def text(req):
    req.response_header("content-type", req.request_header("x-type") or "text/html")
    req.response_header("etag", '"strong"')
    if req.request_header("x-coded"):
        req.response_header("content-encoding", "br")
    size = int(req.query or 5000)
    req.response(200, "<p>hello</p>" * (size // 12))

def text_stream(req):
    req.response_header("content-type", "text/plain")
    req.response(200, (f"line {n}\\n" for n in range(1000)))
"""

CONF = """
http_body_max 1000000
domain * {
    route ^/body/([a-z]+)$ body
    route /generator generator
    route /async async_generator
    route /failing failing
    route /endless endless
    route /waiting waiting
    route /events events
    route /push push
    route /tell tell
    route /file file
    route /twice twice
    route /after after
    route /inject inject
    route /plain text
    route /text {
        handler text
        http_compress yes
    }
    route /stream {
        handler text_stream
        http_compress yes
    }
}
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("responses")
    (directory / "large.bin").write_bytes(bytes(range(256)) * 40_000)
    with server_of(directory, CONF, app=APP, workers=1, tracebacks=True) as running:
        yield running


def raw(up: Server, request: str) -> bytes:
    """Everything that comes until the server closes."""
    with socket.create_connection(("127.0.0.1", up.port), timeout=30) as client:
        client.sendall(request.encode())
        data = b""
        while piece := client.recv(65536):
            data += piece
        return data


@pytest.mark.parametrize(
    ("kind", "expected", "coding"),
    [
        ("bytes", b"abc", None),
        ("str", "äbc".encode(), None),
        ("none", b"", None),
        ("bytearray", b"abc", None),
        ("memoryview", b"abc", None),
        ("list", b"abc", "chunked"),
        ("empty", b"", "chunked"),
        ("tuple", b"abc", "chunked"),
        ("bytesio", b"abc", "chunked"),
        ("stringio", b"abc", "chunked"),
    ],
)
def test_body_types(up: Server, kind: str, expected: bytes, coding: str | None) -> None:
    answer = up.get(f"/body/{kind}")
    assert (answer.status, answer.body, answer.headers["transfer-encoding"]) == (200, expected, coding)
    assert answer.headers["content-length"] == (None if coding else str(len(expected)))
    head = up.get(f"/body/{kind}", "HEAD")
    assert (head.body, head.headers["content-length"]) == (b"", answer.headers["content-length"])
    for status in ("204", "304"):
        bare = up.get(f"/body/{kind}", headers={"x-status": status})
        assert (bare.status, bare.body, bare.headers["transfer-encoding"]) == (int(status), b"", None)
        assert bare.headers["content-length"] is None


@pytest.mark.parametrize("kind", ["dict", "int", "object"])
def test_bodies_that_are_none(up: Server, kind: str) -> None:
    assert up.get(f"/body/{kind}").status == 500


def test_status_out_of_range(up: Server) -> None:
    for kind in ("bytes", "list"):
        assert up.get(f"/body/{kind}", headers={"x-status": "1000"}).status == 500


@pytest.mark.parametrize("path", ["/failing", "/body/numbers", "/body/later"])
def test_a_failure_on_the_way_is_seen_by_the_client(up: Server, path: str) -> None:
    with pytest.raises(http.client.IncompleteRead):
        up.get(path)
    ended = raw(up, f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")
    assert not ended.endswith(b"0\r\n\r\n")


def test_a_failure_on_the_way_is_a_reset_for_old_clients(up: Server) -> None:
    with pytest.raises(ConnectionResetError):
        raw(up, "GET /failing HTTP/1.0\r\n\r\n")


@pytest.mark.parametrize("path", ["/generator", "/async"])
def test_generators(up: Server, path: str) -> None:
    client = http.client.HTTPConnection("127.0.0.1", up.port, timeout=30)
    for _ in range(3):  # the connection stays usable
        client.request("GET", path)
        answer = client.getresponse()
        assert answer.read() == b"0 1 2 3 4 "
    client.close()
    old = raw(up, f"GET {path} HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    assert b"connection: close" in old
    assert b"transfer-encoding" not in old
    assert old.endswith(b"\r\n\r\n0 1 2 3 4 ")


def test_streams_in_a_pipeline_keep_their_order(up: Server) -> None:
    requests = "".join(f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n" for path in ("/generator", "/body/bytes", "/async"))
    data = raw(up, requests + "GET /body/str HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert data.count(b"HTTP/1.1 200") == 4
    assert data.count(b"\r\n0\r\n\r\n") == 2
    assert data.endswith("äbc".encode())
    assert data.index(b"\r\n\r\nabc") > data.index(b"4 \r\n0\r\n\r\n")


@pytest.mark.parametrize("path", ["endless", "waiting"])
def test_a_generator_whose_client_left_is_closed(up: Server, path: str) -> None:
    with socket.create_connection(("127.0.0.1", up.port), timeout=30) as client:
        client.sendall(f"GET /{path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
        assert client.recv(1000)
    until(lambda: path in up.get("/tell").text, f"{path} to be closed")


def test_a_slow_reader_is_waited_for(up: Server) -> None:
    """The worker's memory holds no more than the socket's buffers, however endless the body."""
    (worker,) = up.workers
    with socket.create_connection(("127.0.0.1", up.port), timeout=30) as client:
        client.sendall(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.recv(1000)
        before = rss(worker)
        for _ in range(100):
            assert up.get("/body/bytes").body == b"abc"  # others are served
        assert rss(worker) - before < 16 * 1024 * 1024


def rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_server_sent_events_arrive_one_by_one(up: Server) -> None:
    with socket.create_connection(("127.0.0.1", up.port), timeout=30) as client:
        client.sendall(b"GET /events HTTP/1.1\r\nhost: a\r\n\r\n")
        assert b"text/event-stream" in client.recv(1000)
        for word in ("one", "two"):
            up.get(f"/push?{word}")
            assert client.recv(1000) == b"b\r\ndata: %b\n\n\r\n" % word.encode()


def test_files_go_out_with_their_length(up: Server) -> None:
    answer = up.get("/file")
    assert answer.body == (bytes(range(256)) * 40_000)[10:]
    assert answer.headers["content-length"] == str(len(answer.body))
    assert up.get("/file", "HEAD").headers["content-length"] == str(len(answer.body))
    (worker,) = up.workers
    until(lambda: not any("large.bin" in link for link in opened(worker)), "the file to be closed")


def test_the_first_answer_counts(up: Server) -> None:
    assert up.get("/twice").body == b"first"
    assert up.get("/tell").text.count("refused") == 2
    assert up.get("/after").body == b"kept"
    up.says("after the answer")


def test_headers_can_not_be_injected(up: Server) -> None:
    answer = up.get("/inject")
    assert "line break" in answer.text
    assert answer.headers["set-cookie"] is None


@pytest.mark.parametrize(
    ("path", "headers", "coding"),
    [
        ("/text", {"accept-encoding": "gzip"}, "gzip"),
        ("/text", {"accept-encoding": "gzip;q=0, *;q=0"}, None),
        ("/text", {"accept-encoding": "br"}, None),
        ("/text", {}, None),
        ("/text?500", {"accept-encoding": "gzip"}, None),
        ("/text", {"accept-encoding": "gzip", "x-type": "image/png"}, None),
        ("/text", {"accept-encoding": "gzip", "x-coded": "1"}, "br"),
        ("/text?1000000", {"accept-encoding": "gzip"}, "gzip"),
        ("/plain", {"accept-encoding": "gzip"}, None),
    ],
)
def test_compression(up: Server, path: str, headers: dict[str, str], coding: str | None) -> None:
    answer = up.get(path, headers=headers)
    assert answer.headers["content-encoding"] == coding
    size = int(path.partition("?")[2] or 5000) // 12 * 12
    body = gzip.decompress(answer.body) if coding == "gzip" else answer.body
    assert body == b"<p>hello</p>" * (size // 12)
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["etag"] == ('W/"strong"' if coding == "gzip" else '"strong"')
    could = path.startswith("/text") and size > 1024 and not {"x-type", "x-coded"} & set(headers)
    assert answer.headers["vary"] == ("accept-encoding" if could else None)


def test_zstd_where_there_is_a_library(up: Server) -> None:
    zstd = pytest.importorskip("zstandard")
    answer = up.get("/text", headers={"accept-encoding": "gzip, zstd"})
    assert answer.headers["content-encoding"] == "zstd"
    assert zstd.ZstdDecompressor().decompressobj().decompress(answer.body).startswith(b"<p>hello")
    streamed = up.get("/stream", headers={"accept-encoding": "zstd"})
    assert zstd.ZstdDecompressor().decompressobj().decompress(streamed.body).count(b"\n") == 1000


def test_compressed_streams(up: Server) -> None:
    answer = up.get("/stream", headers={"accept-encoding": "gzip"})
    assert (answer.headers["content-encoding"], answer.headers["vary"]) == ("gzip", "accept-encoding")
    assert zlib.decompressobj(31).decompress(answer.body) == b"".join(b"line %d\n" % n for n in range(1000))


def test_coded_request_bodies_are_not_inflated(server) -> None:
    app = "def page(req):\n    req.response(200, str(len(req.body)))\n"
    up = server("domain * {\nstatic / page\n}\n", app=app, workers=1)
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert up.get("/", "POST", body=bomb, headers={"content-encoding": "gzip"}).text == str(len(bomb))


def test_pretty_errors(server) -> None:
    app = "def page(req):\n    req.response(404, None)\ndef own(req):\n    req.response(404, b'own')\n"
    up = server("http_pretty_error yes\ndomain * {\nstatic / page\nstatic /own own\n}\n", app=app, workers=1)
    assert "404 Not Found" in up.get("/").text
    assert up.get("/own").text == "own"
    assert "404 Not Found" in up.get("/nowhere").text
