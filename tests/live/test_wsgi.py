"""WSGI applications on the real server: PEP 3333 as wsgiref.validate sees it, Flask, gevent-websocket's interface."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket

import pytest
from server import DEADLINE, Server, until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

CONF = """
python_path .
domain * {
	route ^/kore$ {
		handler beside
	}
	route ^/ {
		wsgi hosted:application
	}
}
"""
BESIDE = "def beside(req):\n\treq.response(200, b'kore')\n"
HOSTED = '''
import hashlib, json, os, sys, time
from wsgiref.validate import validator

closed = []

class Body:
    """An iterable with close()."""
    def __init__(self, pieces):
        self.pieces = iter(pieces)
    def __iter__(self):
        return self
    def __next__(self):
        return next(self.pieces)
    def close(self):
        closed.append(1)

def failing():
    yield b"first"
    raise ZeroDivisionError("in the body")

def answer(environ, start_response):
    path = environ["PATH_INFO"]
    plain = [("Content-Type", "text/plain")]
    if path == "/environ":
        known = {k: v for k, v in environ.items() if isinstance(v, (str, bool, int, tuple))}
        start_response("200 OK", plain)
        return [json.dumps(known).encode()]
    if path == "/echo":
        start_response("201 Created", [*plain, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-A", "1")])
        return [environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH", -1)))]
    if path == "/digest":
        found, size = hashlib.sha256(), 0
        while piece := environ["wsgi.input"].read(65536):
            found.update(piece)
            size += len(piece)
        start_response("200 OK", plain)
        return [f"{size} {found.hexdigest()}".encode()]
    if path == "/lines":
        start_response("200 OK", plain)
        return [json.dumps([line.decode() for line in environ["wsgi.input"]]).encode()]
    if path == "/pieces":
        start_response("200 OK", plain)
        return Body([b"one", b"", b"two", b"three"])
    if path == "/write":
        write = start_response("200 OK", plain)
        write(b"written ")
        return [b"and returned"]
    if path == "/none":
        start_response("204 No Content", [])
        return []
    if path == "/empty":
        start_response("200 OK", plain)
        return []
    if path == "/slow":
        time.sleep(0.2)
        start_response("200 OK", plain)
        return [b"slept"]
    if path == "/changed":
        start_response("200 OK", plain)
        try:
            raise KeyError("early")
        except KeyError:
            start_response("418 I'm a teapot", plain, sys.exc_info())
        return [b"short and stout"]
    if path == "/raises":
        raise ZeroDivisionError("before the head")
    if path == "/fails":
        start_response("200 OK", plain)
        return failing()
    if path == "/long":
        start_response("200 OK", [*plain, ("Content-Length", "3")])
        return [b"abcdef"]
    if path == "/errors":
        environ["wsgi.errors"].write("said by the application")
        start_response("200 OK", plain)
        return [b"said"]
    if path == "/file":
        start_response("200 OK", plain)
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    if path == "/closed":
        start_response("200 OK", plain)
        return [str(len(closed)).encode()]
    start_response("404 Not Found", plain)
    return [b"nothing here"]

checked = validator(answer)

def application(environ, start_response):
    if "wsgi.websocket" in environ:
        return talk(environ["wsgi.websocket"])
    # the validator wants to see its own wrapper iterated, which hides file wrappers from the server
    return (answer if environ["PATH_INFO"] == "/file" else checked)(environ, start_response)

def talk(ws):
    assert not ws.closed
    ws.send(json.dumps([ws.path, ws.version, ws.origin]))
    while not ws.closed:
        message = ws.receive()
        if message is None:
            break
        if message == "raise":
            raise ZeroDivisionError("while talking")
        if message == "close":
            ws.close(4000, "as you wish")
            break
        if message == "many":
            for number in range(1000):
                ws.send(bytes(10_000))
            continue
        ws.send(message)
    closed.append(1)
    return []
'''


@pytest.fixture
def up(server, tmp_path) -> Server:
    return started(server, tmp_path, workers=1)


def started(server, tmp_path, before: str = "", **options) -> Server:
    (tmp_path / "hosted.py").write_text(HOSTED)
    return server(before + CONF.replace("python_path .", f"python_path {tmp_path}"), app=BESIDE, **options)


def test_a_request_as_the_application_sees_it(up):
    answer = up.get("/environ?a=b%20c", headers={"X-Two": "1", "X_Bad": "1", "Proxy": "evil", "Cookie": "a=b"})
    environ = json.loads(answer.body)
    expected = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/environ",
        "QUERY_STRING": "a=b%20c",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(up.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_X_TWO": "1",
        "HTTP_COOKIE": "a=b",
        "wsgi.url_scheme": "http",
    }
    assert {name: environ.get(name) for name in expected} == expected
    assert "HTTP_X_BAD" not in environ
    assert "HTTP_PROXY" not in environ
    assert "CONTENT_LENGTH" not in environ
    assert answer.headers["server"] == "gkore"


def test_bodies_in(up):
    answer = up.get("/echo", "POST", body=b"hello")
    assert (answer.status, answer.body) == (201, b"hello")
    assert answer.headers.get_all("set-cookie") == ["a=1", "b=2"]
    chunks = {"body": iter([b"chunk", b"ed"]), "encode_chunked": True, "headers": {"transfer-encoding": "chunked"}}
    assert up.get("/echo", "POST", **chunks).body == b"chunked"
    assert json.loads(up.get("/lines", "POST", body=b"a\nb\nc").body) == ["a\n", "b\n", "c"]


def test_a_body_that_is_on_disk(server, tmp_path):
    up = started(server, tmp_path, "http_body_disk_offload 10000\nhttp_body_max 10000000\n")
    body = os.urandom(3_000_000)
    assert up.get("/digest", "POST", body=body).text == f"{len(body)} {hashlib.sha256(body).hexdigest()}"


def test_bodies_out(up):
    pieces = up.get("/pieces")
    assert pieces.body == b"onetwothree"
    assert pieces.headers["transfer-encoding"] == "chunked"
    assert up.get("/closed").body == b"1"
    assert up.get("/write").body == b"written and returned"
    assert up.get("/changed").status == 418
    assert up.get("/nothing").status == 404
    assert up.get("/kore").body == b"kore"
    assert up.get("/file").body == HOSTED.encode()
    assert up.get("/file").headers["content-length"] == str(len(HOSTED.encode()))
    none = up.get("/none")
    assert (none.status, none.body, none.headers["content-length"]) == (204, b"", None)
    assert up.get("/empty").headers["content-length"] == "0"
    head = up.get("/pieces", "HEAD")
    assert (head.status, head.body) == (200, b"")


def test_keep_alive_and_http_1_0(up):
    client = http.client.HTTPConnection("127.0.0.1", up.port, timeout=DEADLINE)
    for path in ("/pieces", "/write", "/none", "/empty", "/environ") * 3:
        client.request("GET", path)
        assert client.getresponse().read() is not None
    client.close()
    with socket.create_connection(("127.0.0.1", up.port), timeout=DEADLINE) as sock:
        sock.sendall(b"GET /pieces HTTP/1.0\r\n\r\n")
        data = b""
        while piece := sock.recv(65536):
            data += piece
    assert data.endswith(b"\r\n\r\nonetwothree")
    assert b"transfer-encoding" not in data


def test_a_waiting_application_holds_up_nobody(up):
    clients = [http.client.HTTPConnection("127.0.0.1", up.port, timeout=DEADLINE) for _ in range(20)]
    for client in clients:
        client.request("GET", "/slow")
    assert up.get("/kore").body == b"kore"
    assert [client.getresponse().read() for client in clients] == [b"slept"] * 20
    for client in clients:
        client.close()


def test_applications_that_fail(server, tmp_path):
    up = started(server, tmp_path, tracebacks=True)
    assert up.get("/raises").status == 500
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        up.get("/fails")
    assert up.get("/long").body == b"abc"
    assert up.get("/errors").body == b"said"
    until(lambda: "log=[said by the application]" in up.log(), "wsgi.errors in the log")
    assert up.log().count("ZeroDivisionError: before the head") == 1
    assert up.log().count("ZeroDivisionError: in the body") == 1
    assert up.get("/kore").body == b"kore"


def test_websockets_as_gevent_websocket_offers_them(server, tmp_path):
    up = started(server, tmp_path, tracebacks=True, workers=1)
    url = f"ws://127.0.0.1:{up.port}/talk"
    with connect(url, origin="http://here") as client:
        assert json.loads(client.recv(DEADLINE)) == ["/talk", "13", "http://here"]
        for message in ("text ü", b"\x00binary", "a" * 10_000):
            client.send(message)
            assert client.recv(DEADLINE) == message
        client.send("close")
        with pytest.raises(ConnectionClosed):
            client.recv(DEADLINE)
        assert (client.close_code, client.close_reason) == (4000, "as you wish")
    with connect(url) as client:
        client.recv(DEADLINE)
        client.send("raise")
        with pytest.raises(ConnectionClosed):
            client.recv(DEADLINE)
        assert client.close_code == 1011
    with connect(url) as client:
        client.recv(DEADLINE)
        client.close(4001)
        assert client.close_code == 4001
    with connect(url) as client:
        client.recv(DEADLINE)
        client.send("many")
        assert [len(client.recv(DEADLINE)) for _ in range(1000)] == [10_000] * 1000
    until(lambda: up.get("/closed").body == b"3", "the ends of three conversations")


FLASK = """
from flask import Flask, request, session, jsonify, Response, stream_with_context
app = Flask(__name__)
app.secret_key = "x"

@app.get("/")
def index():
    session["seen"] = session.get("seen", 0) + 1
    return jsonify(seen=session["seen"], args=request.args)

@app.post("/form")
def form():
    return jsonify(form=request.form, files={k: v.read().decode() for k, v in request.files.items()})

@app.get("/stream")
def stream():
    return Response(stream_with_context(str(n) for n in range(100)))
"""


def test_flask(server, tmp_path):
    pytest.importorskip("flask", reason="Flask is not installed: Flask on gkore is NOT tested")
    requests = pytest.importorskip("requests")
    (tmp_path / "flaskapp.py").write_text(FLASK)
    up = server(f"python_path {tmp_path}\ndomain * {{\n\troute ^/ {{\n\t\twsgi flaskapp:app\n\t}}\n}}\n")
    with requests.Session() as session:
        base = f"http://127.0.0.1:{up.port}"
        assert session.get(f"{base}/?a=1").json() == {"seen": 1, "args": {"a": "1"}}
        assert session.get(f"{base}/").json()["seen"] == 2
        answer = session.post(f"{base}/form", data={"a": "b"}, files={"f": ("n", b"content")})
        assert answer.json() == {"form": {"a": "b"}, "files": {"f": "content"}}
        assert session.get(f"{base}/stream").text == "".join(map(str, range(100)))
        assert session.get(f"{base}/missing").status_code == 404


def test_kore_wsgi_mounts_an_application(server):
    up = server(
        script="import kore\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [(environ['SCRIPT_NAME'] + '|' + environ['PATH_INFO']).encode()]\n"
        "kore.server(ip='127.0.0.1', port='0', tls=False)\n"
        "kore.domain('*').route('^/shop', kore.wsgi(app, mount='/shop'))\n"
    )
    assert up.get("/shop/cart").text == "/shop|/cart"
    assert up.get("/shop").text == "/shop|"


def test_mistakes_in_the_conf_are_found_at_the_start(server, tmp_path):
    up = server("domain * {\n\troute ^/ {\n\t\twsgi missing_module:app\n\t}\n}\n", ready=False, status=None)
    assert up.ends() == 3
    assert "there is no module missing_module" in up.log()
    assert "kore.conf:4:8" in up.log()
