"""Websockets against the real server, with the ``websockets`` client, Node's ``ws`` and bare sockets."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
from pathlib import Path

import pytest
from callers import APP, CONF, MASK, about, closed, dial, exactly, hear, masked, raw
from server import DEADLINE, until
from websockets.exceptions import InvalidStatus
from websockets.frames import Close


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


# Node


@pytest.fixture(scope="session")
def node_ws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which Node finds ``ws``."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed: Node's ws client is NOT tested")
    directory = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=10000", "ws@8"]
    try:
        subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=True)
    except subprocess.SubprocessError as failure:
        said = getattr(failure, "stderr", None) or failure
        pytest.skip(f"npm can't install ws, Node's client is NOT tested: {str(said)[-200:]}")
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
