"""TLS through the real CLI: which certificate, who may come in, and that nothing but the encryption differs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from certificates import Authority
from server import DEADLINE, REPOSITORY, Server, until

Start = Callable[..., Server]

APP = """
import json
import os
import kore

def who(req):
    found = {"pid": os.getpid(), "protocol": req.protocol, "x509dict": req.connection.x509dict}
    req.response(200, json.dumps({**found, "der": len(req.connection.x509 or b"")}).encode())

def echo(req):
    req.response(200, req.body)

def flood(req):
    req.response(200, b"0123456789abcdef" * 1000000)
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "root")


def domain(name: str, pair: tuple[Path, Path], more: str = "") -> str:
    routes = "".join(f"    route /{one} {{\n        handler {one}\n    }}\n" for one in ("who", "echo", "flood"))
    return f"domain {name} {{\n    certfile {pair[0]}\n    certkey {pair[1]}\n{more}{routes}}}\n"


def context(authority: Authority, *client: Path) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=authority.cert)
    if client:
        made.load_cert_chain(*client)
    return made


@contextmanager
def connected(up: Server, made: ssl.SSLContext, name: str = "one.test", **more: object) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", up.port), DEADLINE) as plain,
        made.wrap_socket(plain, server_hostname=name, **more) as sock,
    ):
        yield sock


def ask(sock: ssl.SSLSocket, path: str = "/who", host: str = "one.test", body: bytes = b"") -> tuple[int, bytes]:
    sock.sendall(
        b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-length: %d\r\n\r\n" % (path.encode(), host.encode(), len(body))
    )
    sock.sendall(body)
    with sock.makefile("rb") as answer:
        status = int(answer.readline().split()[1])
        length = 0
        while (line := answer.readline().lower()) != b"\r\n":
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return status, answer.read(length)


def last_words(sock: socket.socket) -> bytes:
    try:
        return sock.recv(100)
    except ConnectionResetError:  # closed with something unread
        return b""


def name_of(sock: ssl.SSLSocket) -> str:
    return dict(pair for [pair] in sock.getpeercert()["subject"])["commonName"]


def test_the_name_chooses_the_certificate_and_bounds_the_hosts(server: Start, authority: Authority) -> None:
    one, two = authority.issue("one.test"), authority.issue("two.test")
    up = server(domain("one.test", one) + domain("two.test", two), app=APP)
    for name, other in (("one.test", "two.test"), ("two.test", "one.test")):
        with connected(up, context(authority), name) as sock:
            assert name_of(sock) == name
            assert json.loads(ask(sock, host=name)[1])["protocol"] == "https"
            for _ in range(4):  # a request that is remembered for one certificate means nothing to another
                assert ask(sock, host=name)[0] == 200
            assert ask(sock, host=other)[0] == 421
    stranger = context(authority)
    stranger.check_hostname = False
    with connected(up, stranger, "three.test") as sock:  # an unknown name gets the first certificate
        assert name_of(sock) == "one.test"
        assert ask(sock, host="three.test")[0] == 404


@pytest.mark.parametrize("dialect", ["binds", "servers"])
def test_who_speaks_tls(server: Start, authority: Authority, dialect: str) -> None:
    one = domain("one.test", authority.issue("one.test"))
    if dialect == "binds":  # of Kore 3.2: TLS as soon as a domain has a certificate
        up = server(f"bind 127.0.0.1 0\n{one}", app=APP, workers=1)
    else:
        plain = domain("one.test", authority.issue("one.test"), "    attach plain\n")
        one = one.replace("{\n", "{\n    attach secure\n", 1)
        servers = "server secure {\n    bind 127.0.0.1 0\n}\nserver plain {\n    bind 127.0.0.1 0\n    tls no\n}\n"
        up = server(servers + one + plain, app=APP, workers=1)
        with socket.create_connection(("127.0.0.1", up.ports[1]), DEADLINE) as client:
            client.sendall(b"GET /who HTTP/1.1\r\nhost: one.test\r\nconnection: close\r\n\r\n")
            assert b'"protocol": "http"' in client.makefile("rb").read()
    with connected(up, context(authority)) as sock:
        assert json.loads(ask(sock)[1])["protocol"] == "https"


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_versions(server: Start, authority: Authority, version: str) -> None:
    up = server(f"tls_version {version}\n" + domain("*", authority.issue("one.test")), app=APP)
    with connected(up, context(authority)) as sock:
        assert sock.version() == f"TLSv{version}"
    other = context(authority)
    other.minimum_version = other.maximum_version = {
        "1.2": ssl.TLSVersion.TLSv1_3,
        "1.3": ssl.TLSVersion.TLSv1_2,
    }[version]
    with pytest.raises(ssl.SSLError), connected(up, other):
        pass


def test_ciphers_of_tls_1_2(server: Start, authority: Authority) -> None:
    conf = "tls_cipher ECDHE-ECDSA-CHACHA20-POLY1305\n" + domain("*", authority.issue("one.test"))
    up = server(conf, app=APP)
    made = context(authority)
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    with connected(up, made) as sock:
        assert sock.cipher()[0] == "ECDHE-ECDSA-CHACHA20-POLY1305"
    made.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError), connected(up, made):
        pass


def test_diffie_hellman_with_parameters_of_a_file(server: Start, authority: Authority, tmp_path: Path) -> None:
    parameters = tmp_path / "dh.pem"
    command = ["openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "dh_rfc5114:3", "-out", parameters]
    subprocess.run(command, check=True, capture_output=True)
    pair = authority.issue("one.test", "one-rsa", "rsa")
    conf = f"tls_dhparam {parameters}\ntls_cipher DHE-RSA-AES256-GCM-SHA384\n" + domain("*", pair)
    up = server(conf, app=APP)
    made = context(authority)
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    with connected(up, made) as sock:
        assert sock.cipher()[0] == "DHE-RSA-AES256-GCM-SHA384"
        assert ask(sock)[0] == 200


@pytest.mark.parametrize("wrong", ["tls_cipher NONSENSE", "tls_dhparam kore.conf"])
def test_wrong_settings_are_mistakes_of_the_conf(server: Start, authority: Authority, wrong: str) -> None:
    up = server(f"{wrong}\n" + domain("*", authority.issue("one.test")), app=APP, ready=False, status=3)
    assert up.ends() == 3
    assert wrong.partition(" ")[0] in up.log()


def test_handshakes_count_as_connections(server: Start, authority: Authority) -> None:
    conf = "worker_max_connections 2\nhttp_header_timeout 2\n" + domain("*", authority.issue("one.test"))
    up = server(conf, app=APP, workers=1)
    with (
        socket.create_connection(("127.0.0.1", up.port), DEADLINE) as one,
        socket.create_connection(("127.0.0.1", up.port), DEADLINE) as two,
    ):
        one.sendall(b"\x16\x03\x01\x02\x00")
        two.sendall(b"\x16\x03\x01\x02\x00")
        with connected(up, context(authority)) as sock:  # once those two have been given up
            assert ask(sock)[0] == 200
            assert last_words(one) == b""
            assert last_words(two) == b""


def test_large_bodies_both_ways_and_slow_reading(server: Start, authority: Authority) -> None:
    up = server("http_body_max 20000000\n" + domain("*", authority.issue("one.test")), app=APP)
    with connected(up, context(authority)) as sock:
        body = os.urandom(5_000_000)
        assert ask(sock, "/echo", body=body) == (200, body)
        assert ask(sock, "/flood")[1] == b"0123456789abcdef" * 1000000


def test_files(server: Start, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    content = os.urandom(3_000_000)
    (tmp_path / "files" / "big.bin").write_bytes(content)
    up = server(domain("*", authority.issue("one.test"), f"    filemap /files/ {tmp_path / 'files'}\n"), app=APP)
    with connected(up, context(authority)) as sock:
        sock.sendall(b"GET /files/big.bin HTTP/1.1\r\nhost: one.test\r\nconnection: close\r\n\r\n")
        with sock.makefile("rb") as answer:
            assert answer.read().partition(b"\r\n\r\n")[2] == content


@pytest.mark.parametrize("apart", [False, True], ids=["in workers", "apart"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_sessions_are_resumed_by_any_worker(server: Start, authority: Authority, version: str, apart: bool) -> None:
    conf = f"tls_version {version}\n" + ("privsep keymgr {\n}\n" if apart else "")
    up = server(conf + domain("*", authority.issue("one.test")), app=APP, workers=2)
    made = context(authority)

    def worker(resumed: bool = True) -> int:
        with connected(up, made, session=session) as sock:
            assert sock.session_reused == resumed
            return int(json.loads(ask(sock)[1])["pid"])

    with connected(up, made) as sock:
        first = json.loads(ask(sock)[1])["pid"]
        session = sock.session  # after an answer: with TLS 1.3 tickets come behind the handshake
    until(lambda: worker() != first, "another worker")
    before = {first, *up.workers}
    os.kill(first, signal.SIGKILL)
    until(lambda: worker() not in before, "the successor")
    up.reload()
    assert worker(resumed=False)  # new keys for tickets: nothing of before can be read with them


def test_clients_without_a_certificate_are_kept_out_of_that_domain_only(server: Start, authority: Authority) -> None:
    one, two, client = authority.issue("one.test"), authority.issue("two.test"), authority.issue("somebody")
    conf = domain("one.test", one) + domain("two.test", two, f"    client_verify {authority.cert}\n")
    up = server(conf, app=APP)
    with connected(up, context(authority)) as sock:
        assert json.loads(ask(sock)[1])["x509dict"] is None
        assert ask(sock, host="two.test")[0] == 421  # not through another domain's door
    with (
        pytest.raises((ssl.SSLError, ConnectionError, IndexError)),
        connected(up, context(authority), "two.test") as sock,
    ):
        ask(sock, host="two.test")
    with connected(up, context(authority, *client), "two.test") as sock:
        seen = json.loads(ask(sock, host="two.test")[1])
    assert seen["x509dict"] == {"issuer": {"commonName": "root"}, "subject": {"commonName": "somebody"}}
    assert seen["der"] > 100


def test_a_revoked_client_is_refused(server: Start, authority: Authority) -> None:
    good, bad = authority.issue("good"), authority.issue("bad")
    verify = f"    client_verify {authority.cert} {authority.revoke(bad[0])}\n"
    up = server(domain("one.test", authority.issue("one.test"), verify), app=APP)
    with connected(up, context(authority, *good)) as sock:
        assert ask(sock)[0] == 200
    with pytest.raises((ssl.SSLError, ConnectionError, IndexError)), connected(up, context(authority, *bad)) as sock:
        ask(sock)


@pytest.mark.parametrize(("depth", "welcome"), [(1, False), (2, True)])
def test_the_depth_of_a_clients_chain(server: Start, authority: Authority, depth: int, welcome: bool) -> None:
    first = Authority(authority.directory, f"first{depth}", authority)
    second = Authority(authority.directory, f"second{depth}", first)
    cert, key = second.issue("deep", f"deep{depth}")
    chain = authority.directory / f"chain{depth}.pem"
    chain.write_text(cert.read_text() + second.cert.read_text() + first.cert.read_text())
    verify = f"    client_verify {authority.cert}\n    client_verify_depth {depth}\n"
    up = server(domain("one.test", authority.issue("one.test"), verify), app=APP)
    if welcome:
        with connected(up, context(authority, chain, key)) as sock:
            assert ask(sock)[0] == 200
    else:
        with pytest.raises((ssl.SSLError, OSError, IndexError)), connected(up, context(authority, chain, key)) as sock:
            ask(sock)


def test_http_without_tls_is_answered_in_the_clear(server: Start, authority: Authority) -> None:
    up = server(domain("*", authority.issue("one.test")), app=APP)
    answer = up.get("/")
    assert (answer.status, answer.text) == (400, "this port speaks TLS: https\n")


@pytest.mark.parametrize(
    "data", [b"\x00", b"\x16", b"\x16\x03\x01\x00\x05\x01\x00", b"\x16\x03\x01\xff\xff", b"\x80\x2e"]
)
def test_nonsense_and_half_hellos_end_when_the_client_stops(server: Start, authority: Authority, data: bytes) -> None:
    up = server(domain("*", authority.issue("one.test")), app=APP, workers=1)
    with socket.create_connection(("127.0.0.1", up.port), DEADLINE) as sock:
        sock.sendall(data)
        with suppress(OSError):  # what is no hello at first sight has been hung up on already
            sock.shutdown(socket.SHUT_WR)
        assert last_words(sock)[:1] in (b"", b"\x15")  # the end, or an alert
    with connected(up, context(authority)) as sock:
        assert ask(sock)[0] == 200


def test_a_hello_in_pieces(server: Start, authority: Authority) -> None:
    up = server(domain("*", authority.issue("one.test")), app=APP, workers=1)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context(authority).wrap_bio(incoming, outgoing, server_hostname="one.test")
    with socket.create_connection(("127.0.0.1", up.port), DEADLINE) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    sock.sendall(bytes([byte]))
                incoming.write(sock.recv(65536))
        assert tls.version()


def test_a_silent_client_is_dropped(server: Start, authority: Authority) -> None:
    up = server("http_header_timeout 1\n" + domain("*", authority.issue("one.test")), app=APP)
    with socket.create_connection(("127.0.0.1", up.port), DEADLINE) as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00")
        assert last_words(sock) == b""


def test_a_new_certificate_is_served_after_hup_and_old_connections_go_on(server: Start, authority: Authority) -> None:
    one, two = authority.issue("one.test", "replaced"), authority.issue("one.test", "replacement")
    up = server(domain("*", one), app=APP)
    with connected(up, context(authority)) as old:
        serial = old.getpeercert()["serialNumber"]
        for source, target in zip(two, one, strict=True):
            target.write_bytes(source.read_bytes())
        ask(old)
        up.signal(signal.SIGHUP)
        up.ready(2)
        with connected(up, context(authority)) as new:
            assert new.getpeercert()["serialNumber"] != serial
            assert ask(new)[0] == 200


WRONG = {
    "missing": r"there is no file .*gone",
    "mismatch": r"key values mismatch .it belongs to another certificate",
    "other kind": r"key values mismatch .it is not even of the certificate's kind",
    "no certificate": r"certfile .*: there is no certificate in it .PEM.\n",
    "no key": r"certkey .*: there is no private key in it .PEM.\n",
    "der": r"it is DER: `openssl x509 -inform der -in .* -out NEW`",
    "cut off": r"certkey .*: it is cut off: an -----END line is missing",
    "damaged": r"certkey .*: what is between the BEGIN and END lines is damaged",
    "encrypted": r"the key is encrypted; .* .`openssl pkey -in KEY -out NEW`.",
    "small": r"too small for OpenSSL's security level: make one of 2048 bits",
}


@pytest.mark.parametrize("apart", [False, True], ids=["in workers", "apart"])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_files_are_mistakes_of_the_conf(
    tmp_path: Path, server: Start, authority: Authority, wrong: str, apart: bool
) -> None:
    cert, key = authority.issue("one.test")
    text = key.read_text()
    other = tmp_path / "other"
    if wrong == "missing":
        other = other.with_suffix(".gone")
    elif wrong in ("mismatch", "other kind"):
        other = authority.issue("two.test", "", "ec" if wrong == "mismatch" else "rsa")[1]
    elif wrong == "no certificate":
        cert, other = key, key
    elif wrong == "der":
        subprocess.run(["openssl", "x509", "-in", cert, "-outform", "der", "-out", other], check=True)
        cert, other = other, key
    elif wrong == "encrypted":
        subprocess.run(["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", other], check=True)
    elif wrong == "small":
        new = [
            "-newkey",
            "rsa:1024",
            "-nodes",
            "-keyout",
            other,
            "-out",
            tmp_path / "small.pem",
            "-subj",
            "/CN=one.test",
        ]
        subprocess.run(["openssl", "req", "-x509", *new], check=True, capture_output=True)
        cert = tmp_path / "small.pem"
    else:
        middle = len(text) // 2
        other.write_text({"no key": cert.read_text(), "cut off": text[:middle]}.get(wrong, text[:80] + text[120:]))
    conf = ("privsep keymgr {\n}\n" if apart else "") + domain("*", (cert, other))
    up = server(conf, app=APP, ready=False, status=3)
    assert up.ends() == 3
    assert re.search(WRONG[wrong], up.log()), up.log()
    assert "kore.conf:" in up.log()
    assert "1 mistake in the configuration" in up.log()


@pytest.mark.parametrize(
    ("name", "said"), [("one.test", ""), ("two.test", "is for one.test, not for two.test: clients refuse"), ("*", "")]
)
def test_a_certificate_for_another_name_is_told_of(server: Start, authority: Authority, name: str, said: str) -> None:
    up = server(domain(name, authority.issue("one.test")), app=APP, workers=1)
    assert said in up.log()
    assert ("clients refuse" in up.log()) is bool(said)


def test_a_certificate_that_has_ended_is_told_of(server: Start, authority: Authority) -> None:
    pair = authority.issue_ended("one.test")
    up = server(domain("*", pair), app=APP, workers=1)
    up.says(r"one.test-ended.pem has ended on 2020-12-31: clients refuse it; .* send SIGUSR1")

    def until_when() -> float:
        words = [sys.executable, "-m", "gkore", "status", "--json", "-c", "kore.conf"]
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        [domain] = json.loads(subprocess.check_output(words, cwd=up.directory, env=env))["certificates"]
        return float(domain["until"])

    assert until_when() < 1609459200  # the end of 2020
    for source, target in zip(authority.issue("one.test"), pair, strict=True):
        target.write_bytes(source.read_bytes())
    up.signal(signal.SIGUSR1)
    up.says(r"certificates read again")
    assert until_when() > 1609459200


def test_a_stop_finishes_what_is_in_flight(server: Start, authority: Authority) -> None:
    up = server(domain("*", authority.issue("one.test")), app=APP)
    with connected(up, context(authority)) as sock:
        assert ask(sock)[0] == 200
        up.signal(signal.SIGTERM)
        until(lambda: "stopping" in up.log(), up.log)
        assert up.ends() == 0


TURNS = (
    APP
    + """
import socket
from gevent import get_hub

def kore_worker_configure():
    for name in os.listdir("/proc/self/fd"):  # answers of a handshake are small: leave no room for them
        try:
            listener = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        with listener:
            if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)

async def turns(req):
    loop = get_hub().loop
    before = loop.iteration
    await kore.suspend(300)
    req.response(200, b"%d" % (loop.iteration - before))
"""
)


@contextmanager
def small_window(port: int) -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.settimeout(DEADLINE)
        sock.connect(("127.0.0.1", port))
        yield sock


def test_a_client_that_reads_late_or_never_keeps_nobody_busy(server: Start, authority: Authority) -> None:
    cert, key = authority.issue("one.test", "long")
    cert.write_text(cert.read_text() + authority.cert.read_text() * 60)
    up = server(domain("*", (cert, key), "    route /turns {\n        handler turns\n    }\n"), app=TURNS, workers=1)

    def turns() -> int:
        with connected(up, context(authority)) as sock:
            return int(ask(sock, "/turns")[1])

    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context(authority).wrap_bio(incoming, outgoing, server_hostname="one.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()
    with small_window(up.port) as slow:
        slow.sendall(hello + b"and more than it can use now")
        assert turns() < 1000  # it does not read
    with small_window(up.port) as slow:
        slow.sendall(hello)
        turns()
        while not outgoing.pending:
            incoming.write(slow.recv(65536))
            with suppress(ssl.SSLWantReadError):
                tls.do_handshake()
        assert turns() < 1000  # it has read, and does not go on
