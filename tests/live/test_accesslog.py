"""Access logs on the real server: formats, rotation, several domains; who the client is behind proxies."""

from __future__ import annotations

import json
import re
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import Server, until
from server import server as server_of

APP = """
import json
import kore

def page(req):
    req.response(200, b"hello")

def stream(req):
    req.response(200, ["abc", "de"])

def who(req):
    found = [req.client, req.protocol, req.host, req.request_id, req.connection.addr]
    req.response(200, json.dumps(found))

def nothing(req):
    pass
"""


def lines(path: Path, count: int) -> list[str]:
    until(lambda: path.exists() and path.read_text().count("\n") >= count, lambda: f"{count} lines in {path}")
    return path.read_text().splitlines()


def test_every_answer_is_a_line(server) -> None:
    conf = """
accesslog_format combined
domain one.example {
    accesslog one.log
    static / page
    static /stream stream
    static /nothing nothing
    redirect ^/old$ 301 /new
}
domain * {
    accesslog other.log
    static / page
}
"""
    up = server(conf, app=APP, workers=1)
    for path in ("/?a=b", "/stream", "/old", "/missing", "/nothing"):
        up.get(path, headers={"host": "one.example", "referer": 'http://"r"', "user-agent": "me"})
    up.get("/", "HEAD", headers={"host": "two.example"})
    up.get("/", "POST", body=b"x", headers={"host": "two.example"})
    with socket.create_connection(("127.0.0.1", up.port), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.recv(1000)
    found = [line.partition('"')[2] for line in lines(up.directory / "one.log", 5)]
    assert found == [
        r'GET /?a=b HTTP/1.1" 200 5 "http://\x22r\x22" "me"',
        r'GET /stream HTTP/1.1" 200 5 "http://\x22r\x22" "me"',
        r'GET /old HTTP/1.1" 301 0 "http://\x22r\x22" "me"',
        r'GET /missing HTTP/1.1" 404 0 "http://\x22r\x22" "me"',
        r'GET /nothing HTTP/1.1" 500 0 "http://\x22r\x22" "me"',
    ]
    assert [line.partition('"')[2] for line in lines(up.directory / "other.log", 3)] == [
        'HEAD / HTTP/1.1" 200 5 "-" "-"',
        'POST / HTTP/1.1" 200 5 "-" "-"',
        'GET / HTTP/1.0" 200 5 "-" "-"',
    ]
    assert lines(up.directory / "one.log", 5)[0].startswith("127.0.0.1 - - [")


def test_json(server) -> None:
    up = server("accesslog_format json\ndomain * {\naccesslog a.log\nroute ^/x/.*$ page\n}\n", app=APP, workers=2)
    up.get("/x/y?z=1", headers={"user-agent": 'a "b"\\'})
    (line,) = lines(up.directory / "a.log", 1)
    found = json.loads(line)
    assert found["path"] == "/x/y"
    assert found["query"] == "z=1"
    assert found["route"] == "^/x/.*$"
    assert found["agent"] == 'a "b"\\'
    assert found["worker"] in (1, 2)
    assert 0 <= found["duration_ms"] < 30_000
    assert found["request_id"]


def test_rotation(server) -> None:
    up = server("domain * {\naccesslog a.log\nstatic / page\n}\n", app=APP, workers=2)
    log = up.directory / "a.log"
    for number, number_of_signal in enumerate((signal.SIGUSR1, signal.SIGHUP)):
        up.get(f"/?{number}")
        lines(log, 1)
        log.rename(up.directory / f"old{number}")
        up.signal(number_of_signal)
        until(log.exists, "the new file")
        up.ready(1 if number_of_signal == signal.SIGUSR1 else 2)
        until(lambda: up.get("/").status == 200 and log.read_text(), "a line in the new file")
    assert lines(up.directory / "old0", 1)


def test_lines_are_written_at_the_end(server) -> None:
    up = server("domain * {\naccesslog a.log\nstatic / page\n}\n", app=APP, workers=1)
    up.get("/")
    assert up.stop() == 0
    assert len(lines(up.directory / "a.log", 1)) == 1


def test_standard_output(server) -> None:
    up = server("domain * {\naccesslog -\nstatic / page\n}\n", app=APP, workers=1)
    up.get("/")
    up.says(r'127\.0\.0\.1 - - \[.*\] "GET / HTTP/1\.1" 200 5')


def test_a_log_that_can_not_be_opened(server) -> None:
    up = server("domain * {\naccesslog dir/a.log\nstatic / page\n}\n", app=APP, workers=1, ready=False, status=3)
    assert up.ends() == 3


PROXIES = """
trusted_proxies 127.0.0.0/8 10.0.0.0/8
domain * {
    accesslog a.log
    static / page
    static /who who
}
"""


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_of(tmp_path_factory.mktemp("proxies"), PROXIES, app=APP, workers=1) as running:
        yield running


@pytest.mark.parametrize(
    ("headers", "client", "scheme", "host"),
    [
        ({}, "127.0.0.1", "http", "site"),
        ({"x-forwarded-for": "192.0.2.7"}, "192.0.2.7", "http", "site"),
        ({"x-forwarded-for": "6.6.6.6, 192.0.2.7, 10.1.1.1"}, "192.0.2.7", "http", "site"),
        ({"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "https"}, "192.0.2.7", "https", "site"),
        ({"x-forwarded-for": "192.0.2.7", "x-forwarded-host": "shown"}, "192.0.2.7", "http", "shown"),
        ({"forwarded": 'for="[2001:db8::1]:80";proto=https;host=shown'}, "2001:db8::1", "https", "shown"),
        ({"forwarded": "for=192.0.2.7", "x-forwarded-for": "192.0.2.8"}, "127.0.0.1", "http", "site"),
        ({"x-forwarded-for": "nonsense"}, "127.0.0.1", "http", "site"),
    ],
)
def test_clients_behind_trusted_proxies(
    trusting: Server, headers: dict[str, str], client: str, scheme: str, host: str
) -> None:
    up = trusting
    found = json.loads(up.get("/who", headers={"host": "site", "x-request-id": "named-it", **headers}).body)
    assert found[:4] == [client, scheme, host, "named-it"]
    assert found[4] == client
    mark = f"/?{host}{client}{len(str(headers))}"
    up.get("/", headers={"host": "site", "user-agent": mark, **headers})
    log = up.directory / "a.log"
    until(lambda: mark in log.read_text(), "the line")
    assert [line.split()[0] for line in log.read_text().splitlines() if mark in line] == [client]


def test_nobody_else_is_believed(server) -> None:
    up = server(PROXIES.replace("127.0.0.0/8 ", ""), app=APP, workers=1)
    claims = {"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "https", "x-request-id": "evil"}
    found = json.loads(up.get("/who", headers={"host": "site", **claims}).body)
    assert found[:3] == ["127.0.0.1", "http", "site"]
    assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", found[3])


V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([192, 0, 2, 9, 127, 0, 0, 1]) + struct.pack("!HH", 1234, 80)
ASK = b"GET /who HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
PROXIED = """
server behind {
    bind 127.0.0.1 0
    tls no
    proxy_protocol yes
}
domain * {
    attach behind
    route /who who
}
"""


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_of(tmp_path_factory.mktemp("behind"), PROXIED, app=APP, workers=1) as running:
        yield running


@pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.9 127.0.0.1 1234 80\r\n", V2])
@pytest.mark.parametrize("cut", [0, 1, 5, 13, 20])
def test_the_proxy_protocol(behind: Server, header: bytes, cut: int) -> None:
    with socket.create_connection(("127.0.0.1", behind.port), timeout=30) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if cut:
            client.sendall(header[:cut])
            waits_for_more(behind)
        client.sendall(header[cut:] + ASK)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    found = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (found[0], found[4]) == ("192.0.2.9", "192.0.2.9")


def waits_for_more(up: Server) -> None:
    """Nothing stands unread in the server's sockets: it has taken the first part."""

    def queued() -> int:
        rows = subprocess.run(["cat", "/proc/net/tcp"], capture_output=True, check=True, text=True).stdout.splitlines()
        local = f":{up.port:04X}"
        return sum(int(row.split()[4].partition(":")[2], 16) for row in rows[1:] if row.split()[1].endswith(local))

    until(lambda: queued() == 0, "the first part to be read")


@pytest.mark.parametrize(
    "start", [b"GET /who HTTP/1.1\r\nhost: a\r\n\r\n", b"PROXY TCP4 x y 1 2\r\n", b"\r\n\r\n\x00\rX"]
)
def test_no_proxy_header_no_service(behind: Server, start: bytes) -> None:
    with socket.create_connection(("127.0.0.1", behind.port), timeout=30) as client:
        client.sendall(start)
        try:
            assert client.recv(100) == b""
        except ConnectionResetError:
            pass


def test_unix_sockets_in_the_log(server) -> None:
    up = server("unix s.sock\ndomain * {\naccesslog a.log\nstatic / page\n}\n", app=APP, workers=1)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(up.directory / "s.sock"))
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.recv(1000).endswith(b"hello")
    assert lines(up.directory / "a.log", 1)[0].startswith("- - - [")
