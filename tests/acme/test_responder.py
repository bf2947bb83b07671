"""Who offers ``acme-tls/1``: the CA is answered, everybody else is cut off."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("acme", reason="the extra gkore[acme] is not installed")
pytest.importorskip("OpenSSL", reason="the extra gkore[acme] is not installed")

from gkore.acme import responder as subject
from gkore.acme.responder import Responder

DEADLINE = 30.0


@pytest.fixture
def responder() -> Iterator[tuple[Responder, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made = Responder(ours)
    thread = threading.Thread(target=made.serve)
    thread.start()
    yield made, theirs
    theirs.close()
    thread.join(DEADLINE)
    ours.close()


def handed_over(workers: socket.socket) -> socket.socket:
    client, theirs = socket.socketpair()
    with theirs:
        socket.send_fds(workers, [b"\0"], [theirs.fileno()])
    client.settimeout(DEADLINE)
    return client


def hello() -> bytes:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["acme-tls/1"])
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="one.test").do_handshake()
    return outgoing.read()


def test_the_challenge_is_answered(responder: tuple[Responder, socket.socket]) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["acme-tls/1"])
    digest = os.urandom(32)
    with (
        responder[0].answering("one.test", digest),
        handed_over(responder[1]) as plain,
        context.wrap_socket(plain, server_hostname="one.test") as sock,
    ):
        assert sock.selected_alpn_protocol() == "acme-tls/1"
        assert digest in (sock.getpeercert(True) or b"")


def test_a_handshake_ends_in_time_however_often_the_other_side_says_something(
    responder: tuple[Responder, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "TIME_MAX", 0.3)
    with responder[0].answering("one.test", bytes(32)), handed_over(responder[1]) as client:
        client.settimeout(0.02)
        words = iter(hello() * 3)  # a byte each time: never silent for long
        said = 0
        while True:
            try:
                client.send(bytes([next(words)]))
                said += 1
                if not client.recv(1):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert said > 1
