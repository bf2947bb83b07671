"""Access logs on the real server: formats, rotation, several domains; nothing is lost, however a worker ends."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from certificates import Authority
from server import until

APP = """
import kore

def page(req):
    req.response(200, b"hello")

def stream(req):
    req.response(200, ["abc", "de"])

def nothing(req):
    pass
"""


def lines(path: Path, count: int) -> list[str]:
    until(lambda: path.exists() and path.read_text().count("\n") >= count, lambda: f"{count} lines in {path}")
    return path.read_text().splitlines()


def test_every_answer_is_a_line(server) -> None:
    conf = """
accesslog_format combined
domain one.example {
    accesslog one.log
    static / page
    static /stream stream
    static /nothing nothing
    redirect ^/old$ 301 /new
}
domain * {
    accesslog other.log
    static / page
}
"""
    up = server(conf, app=APP, workers=1)
    for path in ("/?a=b", "/stream", "/old", "/missing", "/nothing"):
        up.get(path, headers={"host": "one.example", "referer": 'http://"r"', "user-agent": "me"})
    up.get("/", "HEAD", headers={"host": "two.example"})
    up.get("/", "POST", body=b"x", headers={"host": "two.example"})
    with socket.create_connection(("127.0.0.1", up.port), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.recv(1000)
    found = [line.partition('"')[2] for line in lines(up.directory / "one.log", 5)]
    assert found == [
        r'GET /?a=b HTTP/1.1" 200 5 "http://\x22r\x22" "me"',
        r'GET /stream HTTP/1.1" 200 5 "http://\x22r\x22" "me"',
        r'GET /old HTTP/1.1" 301 0 "http://\x22r\x22" "me"',
        r'GET /missing HTTP/1.1" 404 0 "http://\x22r\x22" "me"',
        r'GET /nothing HTTP/1.1" 500 0 "http://\x22r\x22" "me"',
    ]
    assert [line.partition('"')[2] for line in lines(up.directory / "other.log", 3)] == [
        'HEAD / HTTP/1.1" 200 5 "-" "-"',
        'POST / HTTP/1.1" 200 5 "-" "-"',
        'GET / HTTP/1.0" 200 5 "-" "-"',
    ]
    assert lines(up.directory / "one.log", 5)[0].startswith("127.0.0.1 - - [")


REFUSED = [
    (b"Content-Length: 2000\r\n\r\n", 413),
    (b"Transfer-Encoding: chunked\r\n\r\n7d0\r\n", 413),
    (b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n", 400),
    (b"Content-Length: 10\r\nExpect: miracles\r\n\r\n", 417),
    (b"Content-Length: 10\r\n\r\nhalf", 408),
]


def test_a_request_refused_at_its_body_is_a_line_and_its_limit_is_named(server) -> None:
    conf = """
accesslog_format json
http_body_max 1000
http_body_timeout 1
domain * {
    accesslog a.log
    static / page
}
"""
    up = server(conf, app=APP, workers=1)
    for rest, status in REFUSED:
        with socket.create_connection(("127.0.0.1", up.port), timeout=30) as client:
            client.sendall(b"POST /?x HTTP/1.1\r\nHost: a\r\n" + rest)
            assert client.recv(1000).startswith(b"HTTP/1.1 %d " % status)
    found = [json.loads(line) for line in lines(up.directory / "a.log", len(REFUSED))]
    assert [(line["status"], line["path"], line["length"]) for line in found] == [(s, "/", 0) for _, s in REFUSED]
    assert all(0 <= line["duration_ms"] < 60_000 for line in found)
    up.says(r"refused: body over 1000 bytes \(http_body_max, or the route's body_max\); whoever sends more gets 413")


def test_bodies_that_are_no_bytes_have_a_length(server) -> None:
    app = """
def page(req):
    req.response(200, bytearray(b"hello"))

def text(req):
    req.response(200, "h\u00e9")

def denied(req):
    req.response(403, None)
"""
    conf = """
accesslog_format json
http_pretty_error yes
domain * {
    accesslog a.log
    static / page
    static /text text
    static /denied denied
}
"""
    up = server(conf, app=app, workers=1)
    sizes = [len(up.get(path).body) for path in ("/", "/text", "/denied")]
    assert sizes[:2] == [5, 3]
    assert sizes[2] > 100
    found = [json.loads(line)["length"] for line in lines(up.directory / "a.log", 3)]
    assert found == sizes


def test_json(server) -> None:
    up = server("accesslog_format json\ndomain * {\naccesslog a.log\nroute ^/x/.*$ page\n}\n", app=APP, workers=2)
    up.get("/x/y?z=1", headers={"user-agent": 'a "b"\\'})
    (line,) = lines(up.directory / "a.log", 1)
    found = json.loads(line)
    assert found["path"] == "/x/y"
    assert found["query"] == "z=1"
    assert found["route"] == "^/x/.*$"
    assert found["agent"] == 'a "b"\\'
    assert found["worker"] in (1, 2)
    assert 0 <= found["duration_ms"] < 30_000
    assert found["request_id"]


def test_rotation(server) -> None:
    up = server("domain * {\naccesslog a.log\nstatic / page\n}\n", app=APP, workers=2)
    log = up.directory / "a.log"
    for number, number_of_signal in enumerate((signal.SIGUSR1, signal.SIGHUP)):
        up.get(f"/?{number}")
        lines(log, 1)
        log.rename(up.directory / f"old{number}")
        up.signal(number_of_signal)
        until(log.exists, "the new file")
        up.ready(1 if number_of_signal == signal.SIGUSR1 else 2)
        until(lambda: up.get("/").status == 200 and log.read_text(), "a line in the new file")
    assert lines(up.directory / "old0", 1)


def test_lines_are_written_at_the_end(server) -> None:
    up = server("domain * {\naccesslog a.log\nstatic / page\n}\n", app=APP, workers=1)
    up.get("/")
    assert up.stop() == 0
    assert len(lines(up.directory / "a.log", 1)) == 1


ENDS = """
import os
import signal
import sys
import kore

def page(req):
    req.response(200, b"hello")

def end(req):
    req.response(200, b"")
    how = req.query
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "fatal":
        kore.fatal("as asked")
    elif how == "exit":
        os._exit(1)
"""


@pytest.mark.parametrize("how", ["kill", "segv", "fatal", "exit"])
def test_no_end_of_a_worker_loses_a_line(server, how: str) -> None:
    up = server("domain * {\naccesslog a.log\nstatic / page\nstatic /end end\n}\n", app=ENDS, workers=1)
    for number in range(20):
        up.get(f"/?{number}", headers={"user-agent": f"agent-{number}"})
    (worker,) = up.workers
    try:
        up.get(f"/end?{how}")
    except (ConnectionError, http.client.HTTPException):
        pass
    until(lambda: up.workers not in ([worker], []), "the next worker")
    up.get("/", headers={"user-agent": "the last"})
    until(lambda: "the last" in (up.directory / "a.log").read_text(), "the next worker's line")
    found = [line.rpartition(' "')[2] for line in (up.directory / "a.log").read_text().splitlines()]
    assert found == [*(f'agent-{number}"' for number in range(20)), 'the last"']


def test_an_older_worker_that_dies_after_a_reload_loses_no_line(server) -> None:
    """The program of the master that made its journal is not the one that finds it dead."""
    up = server("domain * {\naccesslog a.log\nstatic / page\nstatic /wait wait\n}\n", app=WAITS, workers=1)
    (older,) = up.workers
    with socket.create_connection(("127.0.0.1", up.port), timeout=30) as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nhost: a\r\nuser-agent: older\r\n\r\n")
        up.says("waiting")
        up.signal(signal.SIGHUP)
        up.ready(2)
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")  # the handler notices, and the worker dies
        until(lambda: older not in up.workers, "the older worker's end")
    until(lambda: '"older"' in (up.directory / "a.log").read_text(), "its line")


WAITS = """
import os
import signal
import kore

def page(req):
    req.response(200, b"hello")

async def wait(req):
    kore.log(kore.LOG_INFO, "waiting")
    while not req.connection.stash:
        await kore.suspend(10)
    req.response(200, b"")
    kore.timer(die, 1, kore.TIMER_ONESHOT)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_page_of_lines_and_a_line_longer_than_one(server) -> None:
    conf = "http_header_max 60000\ndomain * {\naccesslog a.log\nstatic / page\n}\n"
    up = server(conf, app=APP, workers=1)
    agents = [f"{number}-{'x' * 3000}" for number in range(60)] + ["\xff" * 50_000, "short"]
    for agent in agents:
        assert up.get("/", headers={"user-agent": agent}).status == 200
    shown = [agent.replace("\xff", r"\xff") for agent in agents]
    assert [line.split('"')[-2] for line in lines(up.directory / "a.log", len(agents))] == shown


def test_the_name_in_a_client_s_certificate(server, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", "root")
    cert, key = authority.issue("localhost")
    client_cert, client_key = authority.issue("Ada Lovelace", "client")
    conf = f"""
server default {{
    bind 127.0.0.1 0
    tls yes
}}
domain localhost {{
    attach default
    certfile {cert}
    certkey {key}
    client_verify {authority.cert}
    accesslog a.log
    route / {{
        handler page
    }}
}}
"""
    up = server(conf, app=APP, workers=1)
    curl = ["curl", "-sS", "--fail", "-m", "20", "--cacert", str(authority.cert)]
    certificate = ["--cert", str(client_cert), "--key", str(client_key)]
    url = f"https://localhost:{up.port}/"
    resolve = ["--resolve", f"localhost:{up.port}:127.0.0.1"]
    done = subprocess.run([*curl, *certificate, *resolve, url, url], capture_output=True, check=True, text=True)
    assert done.stdout == "hellohello"
    for line in lines(up.directory / "a.log", 2):
        assert line.startswith(r"127.0.0.1 - Ada\x20Lovelace [")


def test_standard_output(server) -> None:
    up = server("domain * {\naccesslog -\nstatic / page\n}\n", app=APP, workers=1)
    up.get("/")
    up.says(r'127\.0\.0\.1 - - \[.*\] "GET / HTTP/1\.1" 200 5')


def test_a_log_that_can_not_be_opened(server) -> None:
    up = server("domain * {\naccesslog dir/a.log\nstatic / page\n}\n", app=APP, workers=1, ready=False, status=3)
    assert up.ends() == 3


def test_unix_sockets_in_the_log(server) -> None:
    up = server("unix s.sock\ndomain * {\naccesslog a.log\nstatic / page\n}\n", app=APP, workers=1)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(up.directory / "s.sock"))
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.recv(1000).endswith(b"hello")
    assert lines(up.directory / "a.log", 1)[0].startswith("- - - [")
