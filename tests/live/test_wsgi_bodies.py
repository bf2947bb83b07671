"""Bodies of hosted WSGI applications: read as they come, left unread, broken, compressed."""

from __future__ import annotations

import gzip
import socket
import ssl
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority
from server import DEADLINE, Server, until
from server import server as running

APPLICATION = """
import time
from wsgiref.validate import validator

seen = []
PLAIN = [("Content-Type", "text/plain")]

def answer(environ, start_response):
    path, body = environ["PATH_INFO"], environ["wsgi.input"]
    if path == "/count":
        size = 0
        while piece := body.read(65536):
            size += len(piece)
        start_response("200 OK", PLAIN)
        return [str(size).encode()]
    if path == "/lines":
        def said():
            for line in iter(body.readline, b""):
                yield b"heard " + line
        start_response("200 OK", PLAIN)
        return said()
    if path == "/ignore":
        start_response("403 Forbidden", PLAIN)
        return [b"not read"]
    if path == "/try":
        try:
            body.read(10_000_000)
        except OSError as failure:
            seen.append(f"{type(failure).__name__}: {failure}")
            raise
        start_response("200 OK", PLAIN)
        return [b"whole"]
    if path == "/seen":
        start_response("200 OK", PLAIN)
        return ["\\n".join(seen).encode()]
    if path == "/text":
        start_response("200 OK", PLAIN)
        return [b"text " * 1000]
    if path == "/pieces":
        start_response("200 OK", [*PLAIN, ("Content-Length", "10000")])
        return (b"text " * 1000 for _ in range(2))
    if path in ("/short", "/tiny"):
        start_response("200 OK", PLAIN)
        return [b"text"]
    if path == "/file":
        start_response("200 OK", [("Content-Type", environ["QUERY_STRING"] or "text/plain")])
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))

checked = validator(answer)

def application(environ, start_response):
    # the validator wants to see its own wrapper iterated, which hides lists and files from the server
    return (answer if environ["PATH_INFO"] in ("/file", "/text", "/tiny") else checked)(environ, start_response)
"""
CONF = "domain * {\n\troute ^/ {\n\t\twsgi streamed:application\n\t}\n}\n"
LAST = b"\r\n0\r\n\r\n"
"""The end of an answer in chunks."""
SMALL, MUCH = 100_000, 10_000_000


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all that nobody else is to mind."""
    directory = tmp_path_factory.mktemp("bodies")
    with running(directory, conf(directory), workers=1) as started:
        yield started


def conf(directory: Path, before: str = "") -> str:
    (directory / "streamed.py").write_text(APPLICATION)
    return f"python_path {directory}\nhttp_body_max 300000000\n{before}{CONF}"


def dial(up: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", up.port), timeout=DEADLINE)


def head(path: str, *fields: str, size: int | None = None) -> bytes:
    framing = "Transfer-Encoding: chunked" if size is None else f"Content-Length: {size}"
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: here", framing, *fields, "", ""]).encode()


def hear(sock: socket.socket, end: bytes) -> bytes:
    """What comes until ``end`` has come, or all there is."""
    data = b""
    while end not in data and (piece := sock.recv(65536)):
        data += piece
    return data


def peak(pid: int) -> int:
    """Bytes of memory that a process had at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.parametrize("size", [200_000_000, None])
def test_a_large_upload_takes_no_memory(up, size):
    assert up.get("/count", "POST", body=b"warm" * 100_000).body == b"400000"
    before = peak(up.workers[0])
    piece = bytes(1_000_000)
    with dial(up) as sock:
        sock.sendall(head("/count", size=size))
        for _ in range(200):
            sock.sendall(piece if size else b"f4240\r\n" + piece + b"\r\n")
        sock.sendall(b"" if size else b"0\r\n\r\n")
        assert b"\r\n200000000\r\n" in hear(sock, LAST)
        assert peak(up.workers[0]) - before < 10_000_000
        sock.sendall(head("/count", size=3) + b"abc")
        assert hear(sock, LAST).endswith(b"\r\n3" + LAST)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_what_is_pipelined_behind_large_bodies_is_served(server, tmp_path, tls):
    """The last bytes of a body and the next head come in one recv, or in one record that OpenSSL holds."""
    certificates = domain_files(tmp_path) if tls else ""
    up = server(conf(tmp_path).replace("domain * {", f"domain * {{{certificates}"), workers=1)
    body, parts = bytes(3_000_000), b"".join(b"186a0\r\n" + bytes(100_000) + b"\r\n" for _ in range(5)) + b"0\r\n\r\n"
    said = [
        head("/count", size=len(body)) + body,
        head("/short", size=0),
        head("/count") + parts,
        head("/text", size=0),
    ]
    with dial(up) as plain, wrapped(plain) if tls else plain as sock:
        sock.sendall(b"".join(said * 2))
        for _ in range(2):
            for expected in (b"\r\n3000000" + LAST, b"\r\ntext" + LAST, b"\r\n500000" + LAST, b"text " * 1000):
                heard = b""
                while not heard.endswith(expected):
                    piece = sock.recv(1)
                    assert piece, heard
                    heard += piece
                assert heard.startswith(b"HTTP/1.1 200 ")


def domain_files(directory: Path) -> str:
    cert, key = Authority(directory / "ca", "root").issue("here.test")
    return f"\n\tcertfile {cert}\n\tcertkey {key}"


def wrapped(plain: socket.socket) -> ssl.SSLSocket:
    made = ssl.create_default_context()
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made.wrap_socket(plain)


def test_an_application_answers_while_its_client_still_sends(up):
    with dial(up) as sock:
        sock.sendall(head("/lines"))
        for word in (b"one", b"two"):
            sock.sendall(b"4\r\n" + word + b"\n\r\n")
            assert hear(sock, b"heard " + word).endswith(b"heard " + word + b"\n\r\n")
        sock.sendall(b"0\r\n\r\n")
        assert hear(sock, LAST) == b"0\r\n\r\n"


def test_continue_is_said_when_the_application_reads(up):
    with dial(up) as sock:
        sock.sendall(head("/count", "Expect: 100-continue", size=5))
        assert hear(sock, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"12345")
        assert hear(sock, LAST).endswith(b"\r\n5" + LAST)
        sock.sendall(head("/ignore", "Expect: 100-continue", size=5))
        refused = hear(sock, LAST)
        assert refused.startswith(b"HTTP/1.1 403")
        assert b"connection: close" in refused
        assert sock.recv(1) == b""


def test_what_is_left_unread_is_dropped_when_it_is_little(up):
    with dial(up) as sock:
        for _ in range(3):
            sock.sendall(head("/ignore", size=SMALL))
            assert hear(sock, LAST).startswith(b"HTTP/1.1 403")
            sock.sendall(bytes(SMALL))
        sock.sendall(head("/ignore", size=SMALL) + bytes(SMALL) + head("/short", size=0))
        assert b"not read" in hear(sock, b"text" + LAST)


def test_a_connection_with_much_left_unread_is_closed(up):
    with dial(up) as sock:
        sock.sendall(head("/ignore", size=MUCH) + bytes(SMALL))
        refused = hear(sock, LAST)
        assert b"connection: close" in refused
        assert sock.recv(1) == b""


def test_a_client_that_leaves_in_the_middle(up):
    with dial(up) as sock:
        sock.sendall(head("/try", size=MUCH) + bytes(SMALL))
    until(lambda: "ConnectionResetError" in up.get("/seen").text, "the application to be told")
    assert up.get("/short").text == "text"


def test_a_body_that_breaks_is_answered(server, tmp_path):
    up = server(conf(tmp_path, "http_body_timeout 2\n").replace("300000000", "1000"), workers=1)
    for body, status in (
        (b"5\r\nhello\r\nnonsense\r\n", 400),
        (b"7d0\r\n" + bytes(2000) + b"\r\n", 413),
        (b"5\r\nhello\r\n", 408),
    ):
        with dial(up) as sock:
            sock.sendall(head("/try"))
            sock.sendall(body)
            assert hear(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 %d" % status)
            while sock.recv(65536):
                pass
        assert up.get("/short").text == "text"


def test_answers_are_compressed(server, tmp_path):
    up = server(conf(tmp_path, "http_compress yes\n"), workers=1)
    accept = {"Accept-Encoding": "gzip"}
    whole = up.get("/text", headers=accept)
    assert (whole.headers["content-encoding"], whole.headers["vary"]) == ("gzip", "accept-encoding")
    assert int(whole.headers["content-length"]) == len(whole.body) < 1000
    assert gzip.decompress(whole.body) == b"text " * 1000
    pieces = up.get("/pieces", headers=accept)
    assert (pieces.headers["transfer-encoding"], pieces.headers.get("content-length")) == ("chunked", None)
    assert zlib.decompress(pieces.body, 31) == b"text " * 2000
    assert gzip.decompress(up.get("/file", headers=accept).body) == APPLICATION.encode()
    asked = up.get("/text", "HEAD", headers=accept)
    assert (asked.headers["content-encoding"], asked.body) == ("gzip", b"")
    for path, headers in (("/text", {}), ("/tiny", accept), ("/file?image/png", accept)):
        plain = up.get(path, headers=headers)
        assert "content-encoding" not in plain.headers
        assert plain.body in (b"text " * 1000, b"text", APPLICATION.encode())


def test_the_head_of_a_file(up):
    answer = up.get("/file", "HEAD")
    assert (answer.headers["content-length"], answer.body) == (str(len(APPLICATION.encode())), b"")
