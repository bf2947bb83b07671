"""The master's end of the bus: it believes no worker and waits for none."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from gkore.errors import ProtocolError
from gkore.master.relay import OUT_MAX, Line, pair
from gkore.protocol.bus import EVERYBODY, HEAD, MASTER, Envelope, Kind, Opener, seal


@pytest.fixture
def bus() -> Iterator[tuple[Line, socket.socket]]:
    ours, theirs = pair()
    line = Line(ours, 3)
    yield line, theirs
    line.close()
    theirs.close()


def test_nothing_to_read(bus: tuple[Line, socket.socket]) -> None:
    line, _ = bus
    assert line.read() is None
    assert line.open


def test_the_senders_number_is_the_masters(bus: tuple[Line, socket.socket]) -> None:
    line, worker = bus
    worker.sendall(seal(Kind.OBJECT, 1, EVERYBODY, b"hello"))
    assert line.read() == [Envelope(Kind.OBJECT, 3, EVERYBODY, b"hello")]


def test_envelopes_arrive_byte_by_byte(bus: tuple[Line, socket.socket]) -> None:
    line, worker = bus
    got = []
    for byte in seal(Kind.READY, 3, MASTER) + seal(Kind.OBJECT, 3, 2, b"x"):
        worker.sendall(bytes([byte]))
        got += line.read() or []
    assert [envelope.kind for envelope in got] == [Kind.READY, Kind.OBJECT]


def test_a_length_out_of_bounds(bus: tuple[Line, socket.socket]) -> None:
    line, worker = bus
    worker.sendall(HEAD.pack(2**32 - 1, Kind.OBJECT, 3, 1))
    with pytest.raises(ProtocolError, match="4294967295 bytes"):
        line.read()


@pytest.mark.parametrize("kind", [Kind.READY, Kind.SHUTDOWN, Kind.DRAIN])
def test_orders_are_not_relayed(bus: tuple[Line, socket.socket], kind: Kind) -> None:
    line, worker = bus
    worker.sendall(seal(kind, 3, EVERYBODY))
    with pytest.raises(ProtocolError, match="to worker 65535"):
        line.read()


def test_the_end_is_seen(bus: tuple[Line, socket.socket]) -> None:
    line, worker = bus
    worker.sendall(seal(Kind.READY, 3, MASTER))
    worker.close()
    assert line.read() == [Envelope(Kind.READY, 3, MASTER, b"")]
    assert line.read() is None
    assert not line.open
    assert not line.send(Envelope(Kind.OBJECT, 1, 3, b""))


def test_a_worker_that_does_not_read_costs_a_bounded_amount(bus: tuple[Line, socket.socket]) -> None:
    line, worker = bus
    megabyte = Envelope(Kind.OBJECT, 1, 3, bytes(2**20))
    kept = 0
    while line.send(megabyte):
        kept += 1
        assert kept <= OUT_MAX // 2**20 + 8
    assert kept >= OUT_MAX // 2**20 - 1
    assert line.waiting
    assert line.lost == 1
    opener, got = Opener(), 0
    while got < kept:
        line.flush()
        for envelope in opener.feed(worker.recv(2**20)):
            assert envelope == megabyte
            got += 1
    line.flush()
    assert not line.waiting
    assert line.lost == 0


def test_descriptors_travel_with_their_envelopes_however_late_these_are_read(bus: tuple[Line, socket.socket]) -> None:
    line, worker = bus
    worker.setblocking(False)
    kept, files = [], []
    for number in range(3):
        reader, writer = os.pipe()
        os.write(writer, b"%d" % number)
        os.close(writer)
        files.append(reader)
        line.send(Envelope(Kind.OBJECT, MASTER, 3, bytes(300_000)))  # more than a socket holds
        line.send(Envelope(Kind.LOGS, MASTER, 3, b"%d" % number), [reader])
    assert line.waiting
    opener = Opener()
    while len(kept) < 3:
        line.flush()
        data, descriptors, _, _ = socket.recv_fds(worker, 65536, 9)
        files += descriptors
        kept += [os.read(descriptor, 9) for descriptor in descriptors]
        for envelope in opener.feed(data):
            if envelope.kind == Kind.LOGS:
                assert envelope.payload == kept[-1]
    assert kept == [b"0", b"1", b"2"]
    for file in files:
        os.close(file)
