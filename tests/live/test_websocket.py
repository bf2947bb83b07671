"""Websockets against the real server, with the ``websockets`` client, Node's ``ws`` and bare sockets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from server import DEADLINE, Server, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close
from websockets.sync.client import ClientConnection, connect

APP = """
import json, os
import kore

seen = []

def tell(c, **what):
    c.websocket_send(kore.WEBSOCKET_OP_TEXT, json.dumps(what))

# echo, with names as in Kore 3

def onconnect(c):
    c.count = 0

def onmessage(c, op, data):
    c.count += 1
    c.websocket_send(op, data)

def ondisconnect(c):
    seen.append(getattr(c, "count", None))

def echo(req):
    req.websocket_handshake("onconnect", "onmessage", "ondisconnect")

# the same, waiting

async def amessage(c, op, data):
    await kore.suspend(1)
    c.websocket_send(op, data)

def aecho(req):
    req.websocket_handshake(None, amessage, None)

# everybody hears everybody, in all workers

def hello(c):
    c.subscribe("all")
    tell(c, pid=os.getpid())

def said(c, op, data):
    if data == "local":
        kore.websocket_broadcast(c, op, data, kore.WEBSOCKET_BROADCAST_LOCAL)
    elif data == "nobody":
        kore.websocket_broadcast(None, op, data, kore.WEBSOCKET_BROADCAST_GLOBAL)
    elif data == "topic":
        kore.websocket_publish("all", op, data, src=c)
    elif data == "leave":
        c.unsubscribe("all")
        tell(c, left=True)
    else:
        kore.websocket_broadcast(c, op, data, kore.WEBSOCKET_BROADCAST_GLOBAL)

def chat(req):
    req.websocket_handshake(hello, said, None)

# mistakes

def wrong(c, op, data):
    if data == "raise":
        raise ZeroDivisionError("on purpose")
    if data == "bad":
        try:
            c.websocket_send(7, b"")
        except TypeError as failure:
            tell(c, failure=str(failure))
    if data == "leave":
        c.disconnect()
    if data == "code":
        c.websocket_close(4001, "because")

def mistakes(req):
    req.websocket_handshake(None, wrong, ondisconnect)

def unconnected(c):
    raise ZeroDivisionError("in onconnect")

def connecting(req):
    req.websocket_handshake(unconnected, None, None)

def unknown(req):
    req.websocket_handshake("nobody", "knows", "these")

def protocols(req):
    req.response_header("x-more", "1")
    req.websocket_handshake(None, onmessage, None, subprotocols=["v2", "v1"])

def plain(req):
    try:
        req.connection.websocket_send(kore.WEBSOCKET_OP_TEXT, b"x")
    except TypeError as failure:
        req.response(200, f"{failure}")

def eager(req):
    req.websocket_handshake(None, onmessage, None)
    req.connection.count = 0
    tell(req.connection, first=True)

# much

def flood(c, op, data):
    for number in range(int(data)):
        kore.websocket_broadcast(c, kore.WEBSOCKET_OP_BINARY, bytes(100_000), kore.WEBSOCKET_BROADCAST_LOCAL)
    tell(c, done=True)

def flooding(req):
    req.websocket_handshake(None, flood, None)

def pour(c, op, data):
    for number in range(int(data)):
        if not c.websocket_send(kore.WEBSOCKET_OP_BINARY, number.to_bytes(4) + bytes(99_996)):
            return
    tell(c, done=True)

def pouring(req):
    req.websocket_handshake(None, pour, None)

def about(req):
    req.response(200, json.dumps({"pid": os.getpid(), "seen": seen}))
"""
PATHS = [
    "echo",
    "aecho",
    "chat",
    "mistakes",
    "connecting",
    "unknown",
    "protocols",
    "plain",
    "eager",
    "flooding",
    "pouring",
    "about",
]
CONF = "domain * {\n" + "".join(f"\tstatic /{path} {path}\n" for path in PATHS) + "}\n"
MASK = b"\x01\x02\x03\x04"


def masked(head: int, payload: bytes) -> bytes:
    return bytes((head, 0x80 | len(payload))) + MASK + bytes(b ^ MASK[i % 4] for i, b in enumerate(payload))


def dial(up: Server, path: str = "/echo", **options: object) -> ClientConnection:
    return connect(
        f"ws://127.0.0.1:{up.port}{path}", open_timeout=DEADLINE, legacy=True, **{"max_queue": None, **options}
    )


def hear(client: ClientConnection) -> str | bytes:
    return client.recv(timeout=DEADLINE)


def closed(client: ClientConnection) -> Close:
    """Wait for the end; the Close that the server sent."""
    with pytest.raises(ConnectionClosed) as caught:
        drain(client)
    assert caught.value.rcvd is not None, "the server left without a Close (1006)"
    return caught.value.rcvd


def drain(client: ClientConnection) -> None:
    while True:
        client.recv(timeout=DEADLINE)


def about(up: Server) -> dict[str, object]:
    return json.loads(up.get("/about").body)


@contextmanager
def raw(up: Server, path: str = "/echo", more: bytes = b"", room: int = 0) -> Iterator[socket.socket]:
    """A websocket by hand, its 101 read; ``more`` goes out with the handshake, ``room`` is the client's buffer."""
    with socket.socket() as sock:
        sock.settimeout(DEADLINE)
        if room:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        sock.connect(("127.0.0.1", up.port))
        sock.sendall(
            b"GET %b HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n%b" % (path.encode(), more)
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        yield sock


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        assert piece, f"the end after {data!r}"
        data += piece
    return data


@pytest.mark.parametrize("compress", ["no", "yes"])
@pytest.mark.parametrize("path", ["/echo", "/aecho"])
def test_echo(server, path, compress):
    up = server(f"websocket_maxframe 70000\nwebsocket_compress {compress}\n{CONF}", app=APP, workers=1)
    with dial(up, path) as client:
        for message in ("", "Grüße 🐙", b"\x00\xff", "long " * 1000, bytes(65000), ["a" * 200, "b", "ü" * 300]):
            client.send(message)
            assert hear(client) == (message if not isinstance(message, list) else "".join(message))
        for number in range(100):
            client.send(f"{number}")
        assert [hear(client) for _ in range(100)] == [f"{number}" for number in range(100)]
        assert client.ping().wait(DEADLINE)
        assert bool(client.protocol.extensions) is (compress == "yes")
    assert client.close_code == 1000


def test_handshakes_that_fail(server):
    up = server(f"websocket_origin https://good.example\n{CONF}", app=APP, tracebacks=True)
    good = {
        "upgrade": "websocket",
        "connection": "keep-alive, Upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }

    def ask(method="GET", path="/echo", **fields):
        headers = {**good, **{name.replace("_", "-"): value for name, value in fields.items()}}
        return up.get(path, method, headers={name: value for name, value in headers.items() if value})

    assert ask(method="DELETE").status == 405
    assert ask(method="DELETE").headers["allow"] == "GET"
    assert ask(upgrade="").status == 426
    assert ask(upgrade="").headers["upgrade"] == "websocket"
    assert ask(connection="close").status == 426
    assert ask(sec_websocket_version="").status == 426
    for version in ("8", "14", "thirteen"):
        assert ask(sec_websocket_version=version).status == 426
        assert ask(sec_websocket_version=version).headers["sec-websocket-version"] == "13"
    for key in ("", "short", "AAAAAAAAAAAAAAAAAAAA", "not base 64 at all !!!!!"):
        assert ask(sec_websocket_key=key).status == 400
    assert ask(origin="https://evil.example").status == 403
    assert ask(path="/unknown").status == 500
    assert "there is no function nobody" in up.log()
    with dial(up, origin="https://GOOD.example") as client:
        client.send("in")
        assert hear(client) == "in"
    assert up.get("/plain").text == "not a websocket connection"


def test_the_answer_to_a_handshake(server):
    up = server(CONF, app=APP)
    with dial(up, "/protocols", subprotocols=["v1", "v2", "v3"]) as client:
        assert client.subprotocol == "v2"
        headers = client.response.headers
        assert headers["x-more"] == "1"
        assert headers["server"] == "gkore"
        assert headers["connection"] == "upgrade"
        assert "keep-alive" not in headers
        assert "content-length" not in headers
    with dial(up, "/protocols", subprotocols=["v9"]) as client:
        assert client.subprotocol is None


def test_frames_that_come_with_the_handshake_are_heard(server):
    up = server(CONF, app=APP)
    early = masked(0x81, b"one") + masked(0x01, b"tw") + masked(0x80, b"o") + masked(0x89, b"?")
    with raw(up, more=early) as sock:
        assert exactly(sock, 3 + 5 + 5) in (b"\x8a\x01?\x81\x03one\x81\x03two", b"\x81\x03one\x81\x03two\x8a\x01?")
    with dial(up, "/eager") as client:
        assert json.loads(hear(client)) == {"first": True}
        client.send("then")
        assert hear(client) == "then"


def test_disconnect_is_called_once_and_last(server):
    up = server(CONF, app=APP, workers=1)
    with raw(up, more=masked(0x81, b"a") * 50 + masked(0x88, b"\x03\xe8")) as sock:
        exactly(sock, 150)
        assert exactly(sock, 4) == b"\x88\x02\x03\xe8"
        assert sock.recv(1) == b""
    until(lambda: about(up)["seen"] == [50], "ondisconnect")
    with raw(up, more=masked(0x81, b"a")) as sock:
        exactly(sock, 3)
    until(lambda: about(up)["seen"] == [50, 1], "ondisconnect after the client vanished")


def test_a_callback_that_raises_ends_its_connection_only(server):
    up = server(CONF, app=APP, workers=1, tracebacks=True)
    pid = about(up)["pid"]
    with dial(up) as bystander, dial(up, "/mistakes") as client:
        client.send("raise")
        assert closed(client).code == 1011
        with dial(up, "/connecting") as second:
            assert closed(second).code == 1011
        bystander.send("still here")
        assert hear(bystander) == "still here"
    assert about(up)["pid"] == pid
    assert up.log().count("ZeroDivisionError: on purpose") == 1
    assert up.log().count("ZeroDivisionError: in onconnect") == 1


def test_wrong_use_and_closing_by_the_application(server):
    up = server(CONF, app=APP)
    with dial(up, "/mistakes") as client:
        client.send("bad")
        assert json.loads(hear(client)) == {"failure": "invalid op parameter"}
        client.send("leave")
        assert closed(client).code == 1000
    with dial(up, "/mistakes") as client:
        client.send("code")
        assert closed(client) == Close(4001, "because")


MISUSE = {
    1002: [
        b"\x81\x01a",
        *(masked(0x80 | bits | 1, b"a") for bits in (0x10, 0x20, 0x40)),
        *(masked(0x80 | op, b"a") for op in (3, 7, 11, 15)),
        masked(0x80, b"a"),
        masked(0x01, b"a") + masked(0x81, b"b"),
        masked(0x09, b"a"),
        b"\x89\xfe\x00\x7e" + MASK + bytes(126),
        *(masked(0x88, struct.pack("!H", code)) for code in (0, 999, 1004, 1005, 1006, 1016, 2999, 5000)),
        masked(0x88, b"\x03"),
    ],
    1007: [
        masked(0x81, b"\xff"),
        masked(0x01, b"\xce\xba\xe1") + masked(0x80, b"\xed\xa0\x80"),
        masked(0x88, b"\x03\xe8\xff"),
    ],
    1009: [b"\x82\xfe\xff\xff" + MASK, b"\x82\xff" + struct.pack("!Q", 2**62) + MASK],
}


def test_misuse_leaves_the_worker_alive_and_silent(server):
    up = server(CONF, app=APP, workers=1)
    pid = about(up)["pid"]
    before = up.log()
    for code, samples in MISUSE.items():
        for sample in samples:
            for pieces in ([sample], [sample[place : place + 1] for place in range(len(sample))][:40]):
                with raw(up) as sock:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    for piece in pieces:
                        sock.send(piece)
                    if b"".join(pieces) != sample:
                        continue
                    head = exactly(sock, 4)
                    assert head[0] == 0x88
                    assert struct.unpack("!H", head[2:])[0] == code, sample
                    rest = exactly(sock, head[1] - 2)
                    assert rest.isascii()
                    assert sock.recv(1) == b""
    assert about(up)["pid"] == pid
    assert up.log() == before


def test_silence_ends_and_pings_keep(server):
    up = server(f"websocket_timeout 1\n{CONF}", app=APP, workers=1)
    with dial(up) as client:
        assert closed(client).code == 1001
    up = server(f"websocket_timeout 3\nwebsocket_ping 1\n{CONF}", app=APP, workers=1)
    with raw(up) as sock:
        assert exactly(sock, 2) == b"\x89\x00"
        sock.send(masked(0x8A, b""))
        assert exactly(sock, 2) == b"\x89\x00"  # and then we don't answer any more
        while (head := exactly(sock, 2)) == b"\x89\x00":
            pass
        assert head[0] == 0x88


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


@pytest.mark.parametrize("policy", ["close", "drop"])
def test_readers_that_never_read_take_bounded_memory(server, policy):
    up = server(f"websocket_slow {policy}\nwebsocket_backlog 150000\n{CONF}", app=APP, workers=1)
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(raw(up, room=4096))
        client = stack.enter_context(dial(up, "/flooding"))
        client.send("1")
        hear(client)
        before = peak(up.workers[0])
        client.send("500")
        assert json.loads(hear(client)) == {"done": True}
        assert peak(up.workers[0]) - before < 200 * 150_000
        assert up.log().count("reads too slowly") == 200


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


# Broadcasts


@contextmanager
def crowd(up: Server, count: int, workers: int) -> Iterator[list[ClientConnection]]:
    """Clients of /chat, so many that every worker has some; each knows its worker's ``pid``."""
    with ExitStack() as stack:
        clients: list[ClientConnection] = []
        while len(clients) < count or len({client.worker for client in clients}) < workers:
            client = stack.enter_context(dial(up, "/chat"))
            client.worker = json.loads(hear(client))["pid"]
            clients.append(client)
            assert len(clients) < 200
        yield clients


def test_a_broadcast_reaches_everybody_once_but_its_source(server):
    up = server(CONF, app=APP, workers=3)
    with crowd(up, 9, 3) as clients:
        source = clients[0]
        source.send("global")
        source.send("nobody")
        for client in clients[1:]:
            assert hear(client) == "global"
            assert hear(client) == "nobody"
        assert hear(source) == "nobody"
        source.send("local")
        source.send("nobody")
        for client in clients[1:]:
            if client.worker == source.worker:
                assert hear(client) == "local"
            assert hear(client) == "nobody"


def test_a_sender_is_heard_in_order(server):
    up = server(CONF, app=APP, workers=2)
    with crowd(up, 4, 2) as clients:
        for number in range(200):
            for client in clients[:2]:
                client.send(f"{client.local_address[1]} {number}")
        for client in clients[2:]:
            heard = [hear(client).split() for _ in range(400)]
            for source in clients[:2]:
                mine = [number for port, number in heard if port == str(source.local_address[1])]
                assert mine == [str(number) for number in range(200)]


def test_topics(server):
    up = server(CONF, app=APP, workers=2)
    with crowd(up, 4, 2) as clients:
        source, away = clients[0], clients[1]
        away.send("leave")
        assert json.loads(hear(away)) == {"left": True}
        source.send("topic")
        source.send("nobody")
        assert hear(away) == "nobody"
        assert hear(source) == "nobody"
        for client in clients[2:]:
            assert hear(client) == "topic"
            assert hear(client) == "nobody"


def test_a_worker_killed_in_mid_broadcast_takes_nobody_with_it(server):
    up = server(CONF, app=APP, workers=3)
    with crowd(up, 9, 3) as clients:
        victim = clients[-1].worker
        source = next(client for client in clients if client.worker != victim)
        others = [client for client in clients if client.worker != victim and client is not source]
        for number in range(200):
            source.send(f"{number}")
            if number == 100:
                os.kill(victim, signal.SIGKILL)
        for client in others:
            assert [hear(client) for _ in range(200)] == [f"{number}" for number in range(200)]
        late = [client for client in clients if client.worker == victim]
        for client in late:
            with pytest.raises(ConnectionClosed):
                list(client)  # ends with the exception


# The end


def test_a_stop_says_1001(server):
    up = server(CONF, app=APP, workers=2)
    with crowd(up, 6, 2) as clients:
        up.signal(signal.SIGTERM)
        assert {closed(client).code for client in clients} == {1001}
    assert up.ends() == 0


def test_a_reload_says_1012_bit_by_bit_and_goes_on_serving(server):
    up = server(f"worker_drain_time 4\n{CONF}", app=APP, workers=2)
    with crowd(up, 8, 2) as clients:
        up.signal(signal.SIGHUP)
        up.ready(2)
        assert {closed(client).code for client in clients} == {1012}
        with dial(up) as client:
            client.send("new")
            assert hear(client) == "new"


# Node


@pytest.fixture(scope="session")
def node_ws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which Node finds ``ws``."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed: Node's ws client is NOT tested")
    directory = tmp_path_factory.mktemp("node")
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "ws@8"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"npm can't install ws, Node's client is NOT tested: {done.stderr[-200:]}")
    return directory


NODE = """
const WebSocket = require("ws");
const ws = new WebSocket(process.argv[1], {perMessageDeflate: process.argv[2] === "yes"});
const sent = ["text ü", "x".repeat(5000), "y".repeat(60000)];
let heard = 0;
ws.on("open", () => { for (const text of sent) ws.send(text); ws.send(Buffer.alloc(3000, 7)); });
ws.on("message", (data, binary) => {
  const good = binary ? data.equals(Buffer.alloc(3000, 7)) : data.toString() === sent[heard];
  if (!good) { console.log("wrong", heard); process.exit(1); }
  if (++heard === 4) ws.close(1000, "done");
});
ws.on("close", (code, reason) =>
  console.log(JSON.stringify({code, reason: reason.toString(), extensions: ws.extensions})));
ws.on("error", error => { console.log(error.message); process.exit(1); });
"""


@pytest.mark.parametrize("compress", ["no", "yes"])
def test_nodes_client(server, node_ws, compress):
    up = server(f"websocket_maxframe 70000\nwebsocket_compress {compress}\n{CONF}", app=APP)
    done = subprocess.run(
        ["node", "-e", NODE, f"ws://127.0.0.1:{up.port}/echo", compress],
        cwd=node_ws, capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert (said["code"], said["reason"]) == (1000, "done")
    assert ("permessage-deflate" in said["extensions"]) is (compress == "yes")


def test_a_browser_page_is_told_what_a_websocket_is(server):
    up = server(CONF, app=APP)
    with pytest.raises(InvalidStatus):
        dial(up, "/about")
    assert up.get("/echo").status == 426
