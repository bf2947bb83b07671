"""Who the client is behind proxies: Forwarded and its kin from trusted ones, and the PROXY protocol."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
from collections.abc import Iterator

import pytest
from server import Server, until
from server import server as server_of

APP = """
import json
import kore

def page(req):
    req.response(200, b"hello")

def who(req):
    found = [req.client, req.protocol, req.host, req.request_id, req.connection.addr]
    req.response(200, json.dumps(found))
"""
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
