"""The corpus of raw requests, spoken to a real server with two workers over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

import pytest
from corpus import Sample, all_samples
from server import DEADLINE, Server
from server import server as running

from gkore.errors import ProtocolError
from gkore.protocol.head import Head
from gkore.protocol.request import Limits, RequestParser

CONF = Path(__file__).parents[1] / "apps/corpus.conf"
PROBE = b"GET /p/probe HTTP/1.1\r\nHost: probe\r\n\r\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server; whatever it is sent, its workers are the same at the end (and their log holds no traceback)."""
    with running(tmp_path_factory.mktemp("corpus"), CONF) as up:
        workers = up.workers
        yield up
        assert up.workers == workers


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection, read answer by answer."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), DEADLINE)
        self.received = b""

    def send(self, data: bytes) -> None:
        with suppress(ConnectionError):  # refused before its end: the answer tells
            self.sock.sendall(data)

    def response(self, to: bytes = b"GET") -> Response:
        while b"\r\n\r\n" not in self.received:
            self.read_more()
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        line, *rows = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rows)}
        status = int(line.split(" ")[1])
        length = 0 if to == b"HEAD" or status < 200 else int(headers["content-length"])
        while len(self.received) < length:
            self.read_more()
        body, self.received = self.received[:length], self.received[length:]
        return Response(status, headers, body)

    def read_more(self) -> None:
        data = self.sock.recv(65536)
        assert data, f"closed behind {self.received!r}"
        self.received += data

    def rest(self) -> bytes:
        """What still comes until the server closes."""
        while data := self.sock.recv(65536):
            self.received += data
        return self.received


def verbs_of(data: bytes) -> Iterator[bytes]:
    """The methods of the requests in ``data``, GET where the parser sees none: an answer to HEAD has no body."""
    parser = RequestParser(Limits(), Head)
    with suppress(ProtocolError):
        parser.feed(data)
    return chain((head.line.verb for head in parser.complete), repeat(b"GET"))


@pytest.mark.parametrize("sample", all_samples(), ids=str)
def test_answers(site: Server, sample: Sample) -> None:
    client = Client(site.port)
    with client.sock:
        client.send(sample.data)
        if sample.continues:
            assert client.response().status == 100
        responses = [client.response(to=verb) for _, verb in zip(sample.statuses, verbs_of(sample.data), strict=False)]
        assert [response.status for response in responses] == sample.statuses
        if sample.bodies:
            assert [response.body for response in responses] == sample.bodies
        assert all("allow" in response.headers for response in responses if response.status == 405)
        check_ending(sample, client, responses)


def check_ending(sample: Sample, client: Client, responses: list[Response]) -> None:
    closing = [response.headers["connection"] == "close" for response in responses]
    if sample.ending == "refuse":
        refusal = client.response()
        assert refusal.status in sample.refusals
        assert refusal.headers["connection"] == "close"
        assert ("allow" in refusal.headers) is (refusal.status == 405)
    elif sample.ending == "keep":
        assert not any(closing)
        client.send(PROBE)
        assert client.response()[::2] == (200, b"hello")
        return
    elif sample.ending == "close":
        assert closing == [False] * (len(closing) - 1) + [True]
    else:
        client.sock.shutdown(socket.SHUT_WR)
    assert client.rest() == b""
