"""The corpus of raw requests, spoken to a real server with two workers over real sockets."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

import pytest
from corpus import Sample, all_samples

from gkore.errors import ProtocolError
from gkore.protocol.head import Head
from gkore.protocol.request import Limits, RequestParser

ROOT = Path(__file__).parents[2]
DEADLINE = 10.0
"""Seconds for anything to happen: only a broken server needs them."""
PROBE = b"GET /p/probe HTTP/1.1\r\nHost: probe\r\n\r\n"


class Server:
    """One gkore process tree; its log goes to a file."""

    def __init__(self, log: Path) -> None:
        self.log = log
        command = [sys.executable, "-m", "gkore", "-nr", "--workers", "2", "-c", str(ROOT / "tests/apps/corpus.conf")]
        environ = os.environ | {"PYTHONPATH": str(ROOT)}
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, stderr=output, stdout=output, cwd=log.parent, env=environ)

    def wait_until_ready(self) -> None:
        text = self.wait_for("log=[ready: 2 workers")
        found = re.search(r"listening on http://([\d.]+):(\d+) ", text)
        assert found is not None
        self.address = found[1], int(found[2])
        self.workers = set(map(int, re.findall(r"worker \d+ \(pid (\d+)\) is ready", text)))
        assert len(self.workers) == 2

    def wait_for(self, text: str) -> str:
        deadline = time.monotonic() + DEADLINE
        while text not in (written := self.log.read_text()):
            assert self.process.poll() is None, written
            assert time.monotonic() < deadline, written
            time.sleep(0.01)
        return written

    def children(self) -> set[int]:
        pid = self.process.pid
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE)
        finally:
            self.process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server; whatever it is sent, its workers are the same at the end and have nothing to complain about."""
    server = Server(tmp_path_factory.mktemp("corpus") / "log")
    try:
        server.wait_until_ready()
        yield server
        assert server.children() >= server.workers
        assert "Traceback" not in server.log.read_text()
    finally:
        status = server.stop()
    assert status == 0, server.log.read_text()


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection, read answer by answer."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.create_connection(address, DEADLINE)
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
def test_answers(server: Server, sample: Sample) -> None:
    client = Client(server.address)
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
