"""Several domains and servers, redirect, return, restrict: what a conf says about who answers."""

from __future__ import annotations

import http.client
import socket

import pytest
from server import Answer, Server

APP = """
def a(req):
    req.response(200, b"a")

def b(req):
    req.response(200, b"b")

def any_method(req, *groups):
    req.response(200, f"{req.method} {'|'.join(groups)}")
"""

CONF = """
server one {
    bind 127.0.0.1 0
    tls no
}
server two {
    bind 127.0.0.1 0
    unix two.sock
    tls no
}
domain a.example {
    attach one
    static / a
    redirect ^/old/([a-z]+)/?(.*)$ 301 /new/$1?rest=$2&$qs
    redirect ^/elsewhere$ 302 https://elsewhere.example/
    return ^/gone 410
    return ^/teapot$ 418
    static /gone-not b
    static /limited any_method
    restrict /limited get post
    static /split any_method
    restrict /split get
}
domain *.b.example {
    attach one
    attach two
    static / b
}
domain two.example {
    attach two
    static / a
    route /split {
        handler a
        methods get
    }
    route /split {
        handler b
        methods post
    }
    route ^/(x)?(y)?$ any_method
}
"""


@pytest.fixture
def up(server) -> Server:
    return server(CONF, app=APP, workers=1)


def ask(up: Server, number: int, host: str, path: str = "/", method: str = "GET") -> Answer:
    client = http.client.HTTPConnection("127.0.0.1", up.ports[number], timeout=30)
    client.request(method, path, headers={"host": host})
    response = client.getresponse()
    try:
        return Answer(response.status, response.headers, response.read())
    finally:
        client.close()


def test_domains_of_servers(up: Server) -> None:
    for number, host, body in (
        (0, "a.example", b"a"),
        (0, "A.Example:80", b"a"),
        (0, "x.b.example", b"b"),
        (1, "x.b.example", b"b"),
        (1, "two.example", b"a"),
    ):
        assert ask(up, number, host).body == body
    for number, host in ((0, "two.example"), (1, "a.example"), (0, "b.example"), (0, "localhost")):
        assert ask(up, number, host).status == 404
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(up.directory / "two.sock"))
        client.sendall(b"GET / HTTP/1.1\r\nhost: two.example\r\n\r\n")
        assert client.recv(1000).endswith(b"\r\n\r\na")


def test_redirects_and_returns_come_first(up: Server) -> None:
    for path, status, location in (
        ("/old/thing", 301, "/new/thing?rest=&"),
        ("/old/thing/more?q=1", 301, "/new/thing?rest=more&q=1"),
        ("/elsewhere", 302, "https://elsewhere.example/"),
        ("/gone", 410, None),
        ("/gone-not", 410, None),
        ("/teapot", 418, None),
    ):
        answer = ask(up, 0, "a.example", path)
        assert (answer.status, answer.headers["location"], answer.body) == (status, location, b"")
        assert answer.headers["connection"] == "keep-alive"


def test_restrict(up: Server) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"):
        answer = ask(up, 0, "a.example", "/limited", method)
        assert answer.status == (200 if method in ("GET", "POST") else 405)
        assert answer.headers["allow"] == (None if answer.status == 200 else "GET, POST")


def test_one_path_two_routes(up: Server) -> None:
    assert ask(up, 1, "two.example", "/split").body == b"a"
    assert ask(up, 1, "two.example", "/split", "POST").body == b"b"
    assert ask(up, 1, "two.example", "/split", "PUT").headers["allow"] == "GET, POST"


def test_groups_end_at_the_first_that_took_no_part(up: Server) -> None:
    assert ask(up, 1, "two.example", "/xy").body == b"1 x|y"
    assert ask(up, 1, "two.example", "/x").body == b"1 x"
    assert ask(up, 1, "two.example", "/y").body == b"1 "


SCRIPT = """
import os
import kore

os.makedirs("files", exist_ok=True)
with open("files/a.txt", "w") as file:
    file.write("a")

def page(req):
    req.response(200, f"{req.host} {req.protocol}")

class App:
    def configure(self, args):
        kore.server("named", ip="127.0.0.1", port="0", tls=False)
        kore.server(name="second", path="second.sock", tls=False)
        first = kore.domain("*", attach="named")
        first.route("/", page, methods=["get"])
        auth = {"type": "header", "value": "x-a", "verify": allow}
        first.filemaps({"/files/": "files", "/guarded/": ("files", auth)})
        first.redirect("^/old$", 302, "/")
        first.accesslog = "access.log"
        kore.domain("*", attach="second").route("/", page)

def allow(req, value):
    return value == "yes"

koreapp = App()
"""


def test_a_site_made_by_a_script(server) -> None:
    up = server(script=SCRIPT, workers=1)
    assert up.get("/", headers={"host": "some.host:1"}).text == "some.host:1 http"
    assert up.get("/", "HEAD").status == 200
    assert up.get("/", "POST").status == 405
    assert up.get("/files/a.txt").text == "a"
    assert up.get("/guarded/a.txt").status == 403
    assert up.get("/guarded/a.txt", headers={"x-a": "yes"}).text == "a"
    assert up.get("/old").headers["location"] == "/"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(up.directory / "second.sock"))
        client.sendall(b"GET / HTTP/1.1\r\nhost: unix\r\n\r\n")
        assert client.recv(1000).endswith(b"unix http")
    assert up.stop() == 0
    assert (up.directory / "access.log").read_text().count("\n") == 7
