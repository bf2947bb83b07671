"""Websockets whose clients are slower than the server, or faster, or silent."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from callers import APP, CONF, closed, dial, exactly, hear, masked, raw


def test_silence_ends_and_pings_keep(server):
    ends = server(f"websocket_timeout 1\n{CONF}", app=APP, workers=1)
    keeps = server(f"websocket_timeout 3\nwebsocket_ping 1\n{CONF}", app=APP, workers=1)
    with dial(ends) as client, raw(keeps) as sock:
        assert exactly(sock, 2) == b"\x89\x00"
        sock.send(masked(0x8A, b""))
        assert exactly(sock, 2) == b"\x89\x00"  # and then we don't answer any more
        while (head := exactly(sock, 2)) == b"\x89\x00":
            pass
        assert head[0] == 0x88
        assert closed(client).code == 1001


def test_a_slow_reader_is_closed_and_a_broadcast_never_waits(server):
    up = server(f"websocket_backlog 300000\n{CONF}", app=APP, workers=1)
    with ExitStack() as stack:
        sleepers = [stack.enter_context(raw(up, "/echo")) for _ in range(20)]
        with dial(up, "/flooding") as client:
            client.send("100")
            assert json.loads(hear(client)) == {"done": True}
        assert up.log().count("reads too slowly") == 20
        assert "closed]" in up.log()
        for sleeper in sleepers:  # what was on its way arrives whole, then the Close
            end, count = b"", 0
            while end != b"\x88\x12\x03\xf0reads too slowly":
                piece = sleeper.recv(1 << 20)
                assert piece, "the end without a Close"
                end, count = (end + piece)[-20:], count + len(piece)
            assert (count - 20) % 100_010 == 0


def test_a_slow_reader_may_miss_messages_instead(server):
    up = server(f"websocket_slow drop\nwebsocket_backlog 300000\n{CONF}", app=APP, workers=1)
    with raw(up) as sleeper, dial(up, "/flooding") as client:
        client.send("100")
        assert json.loads(hear(client)) == {"done": True}
        assert "messages are dropped" in up.log()
        sleeper.send(masked(0x81, b"still here"))
        end, count = b"", 0
        while end != b"\x81\x0astill here":
            piece = sleeper.recv(1 << 20)
            end, count = (end + piece)[-12:], count + len(piece)
        assert 12 < count < 100 * 100_010
        assert (count - 12) % 100_010 == 0


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Enough of them for 1,000 clients."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 2048:
        pytest.skip(f"RLIMIT_NOFILE is {before[1]}: 1,000 readers that never read are NOT tested")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 2048), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("policy", ["close", "drop"])
def test_a_thousand_readers_that_never_read_take_bounded_memory(server, descriptors, policy):
    limits = "worker_max_connections 1100\nworker_rlimit_nofiles 1200\nwebsocket_backlog 150000\n"
    up = server(f"{limits}websocket_slow {policy}\n{CONF}", app=APP, workers=1)
    with ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(raw(up, room=4096, segment=536))
        client = stack.enter_context(dial(up, "/flooding"))
        client.send("1")
        hear(client)
        before = peak(up.workers[0])
        client.send("100")
        assert json.loads(hear(client)) == {"done": True}
        assert peak(up.workers[0]) - before < 1000 * 150_000
        assert up.log().count("reads too slowly") == 1000


def peak(pid: int) -> int:
    """Bytes of memory that a process had at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_a_callback_waits_for_its_own_client(server):
    up = server(f"websocket_backlog 300000\n{CONF}", app=APP, workers=1)
    with dial(up, "/pouring", max_size=None) as client, dial(up) as bystander:
        client.send("300")
        bystander.send("not held up")
        assert hear(bystander) == "not held up"
        for number in range(300):
            assert hear(client)[:4] == number.to_bytes(4)
        assert json.loads(hear(client)) == {"done": True}


def test_what_comes_while_the_handler_is_busy_is_kept_and_what_follows_is_heard(server):
    """More than is read ahead: reading stops, and goes on when the handler of the handshake is done."""
    up = server(CONF, app=APP, workers=1)
    texts = [f"{number} " * 2000 for number in range(30)]
    with dial(up, "/late") as client:
        for text in texts:
            client.send(text)
        assert up.get("/now").status == 200
        assert [hear(client) for _ in texts] == texts
        client.send("then")
        assert hear(client) == "then"
    assert client.close_code == 1000
