"""How many Python functions run for one request on the hot path: the budget that features must not grow.

Counted with ``sys.setprofile`` inside a real worker process: calls of Python functions (not of C functions) between two
requests on a warm keep-alive connection. Each call in the budget is named with its reason.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gkore.compiled import is_compiled

pytestmark = pytest.mark.skipif(is_compiled(), reason="a compiled hot path makes no Python calls")

APP = textwrap.dedent(
    """
    import sys
    import kore

    calls = []

    def hello(req):
        req.response(200, b"hello world")

    async def hello_async(req):
        req.response(200, b"hello world")

    def count(frame, event, arg):
        if event == "call":
            calls.append(f"{frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.f_code.co_name}")

    def start(req):
        calls.clear()
        sys.setprofile(count)
        req.response(200, b"")

    def stop(req):
        sys.setprofile(None)
        req.response(200, "\\n".join(calls).encode())
    """
)

CONF = """
server default {{
    bind 127.0.0.1 0
    tls no
}}
python_import {app}
workers 1
worker_set_affinity 0
domain * {{
    attach default
    {log}
    route /sync {{
        handler hello
    }}
    route /async {{
        handler hello_async
    }}
    route /start {{
        handler start
    }}
    route /stop {{
        handler stop
    }}
}}
"""

SYNC = [
    "connection.py:readable",  # the watcher's callback: recv, and what the bytes mean, for they were seen before
    "ready.py:begin",  # once a turn: the queue is no longer empty
    "ready.py:_pump",  # once a turn: on the hub, switches into the task
    "ready.py:_serve",  # once a turn: on the task
    "connection.py:serve",  # on the task: the loop over whole requests
    "app.py:hello",  # the handler
    "answer.py:response",  # head, body, send
]
ASYNC = [
    *SYNC[:5],
    "app.py:hello_async",  # the first step of the coroutine
    "answer.py:response",
]


LOGGED = [
    *(call for call in SYNC if call != "answer.py:response"),
    "dispatch.py:serve",  # what stands around the handler: nothing but the log
    "filtered.py:response",  # as Request.response, and notes the length
    "accesslog.py:take",  # the line
]


@pytest.fixture
def port(tmp_path: Path, request: pytest.FixtureRequest):
    (tmp_path / "app.py").write_text(APP)
    conf = tmp_path / "kore.conf"
    conf.write_text(CONF.format(app=tmp_path / "app.py", log=getattr(request, "param", "")))
    command = [sys.executable, "-m", "gkore", "-nrc", str(conf)]
    server = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ})
    found = 0
    for line in server.stderr:
        if "listening on http://127.0.0.1:" in line:
            found = int(line.split("127.0.0.1:")[1].split()[0])
        if "ready:" in line:
            break
    assert found, "the server did not start"
    yield found
    server.terminate()
    server.communicate(timeout=20)


def calls_of(port: int, path: str) -> list[str]:
    """The Python functions called for a request to ``path``, without what came between by the clock: the pulse."""
    return min((counted(port, path) for _ in range(5)), key=len)


def counted(port: int, path: str) -> list[str]:
    """The Python functions called during the fourth request to ``path`` on one connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        for _ in range(3):
            ask(sock, path)
        ask(sock, "/start")
        ask(sock, path)
        said = ask(sock, "/stop").decode().split()
    # The request to /stop is counted too, up to its handler; and what ends /start.
    first = said.index("connection.py:readable")
    return said[first : said.index("connection.py:readable", first + 1)]


def ask(sock: socket.socket, path: str) -> bytes:
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += sock.recv(65536)
    assert head.startswith(b"HTTP/1.1 200"), head
    return body


@pytest.mark.parametrize(("path", "budget"), [("/sync", SYNC), ("/async", ASYNC)])
def test_calls_of_one_request(port: int, path: str, budget: list[str]) -> None:
    assert sorted(calls_of(port, path)) == sorted(budget)


@pytest.mark.parametrize("port", ["accesslog a.log"], indirect=True)
def test_calls_of_one_logged_request(port: int) -> None:
    assert sorted(calls_of(port, "/sync")) == sorted(LOGGED)
