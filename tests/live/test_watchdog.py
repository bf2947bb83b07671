"""A hub that does not come round: named, and replaced; and what a dying worker leaves in the log."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable

from server import DEADLINE, Server, until

Start = Callable[..., Server]

APP = """
import ctypes
import os
import kore

def hello(req):
    req.response(200, str(os.getpid()).encode())

def spin(req):
    while not os.path.exists("go"):
        x = 1  # the blocking line
    req.response(200, b"spun")

def hold(req):
    ctypes.PyDLL(None).sleep(300)  # holds the interpreter's lock: no Python code runs meanwhile

async def wait(req):
    await kore.suspend(60000)

def crash(req):
    ctypes.string_at(0)
"""
CONF = (
    "domain * {\n"
    + "".join(
        f"    route /{name} {{\n        handler {name}\n    }}\n" for name in ("hello", "spin", "hold", "wait", "crash")
    )
    + "}\n"
)


def begin(up: Server, path: str) -> socket.socket:
    """Send a request whose answer is not waited for."""
    client = socket.create_connection(("127.0.0.1", up.port), DEADLINE)
    client.sendall(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode())
    return client


def test_the_blocking_line_is_named(server: Start) -> None:
    up = server(f"worker_block_warn 1000\n{CONF}", app=APP, workers=1)
    with begin(up, "/spin") as client:
        up.says(r"proc=\[parent\] log=\[worker 1 .* has been blocked for \d+ ms")
        up.says(r"proc=\[wrk 1\] log=\[the hub has been blocked for \d+ ms")
        up.says(r'proc=\[wrk 1\] log=\[ *File ".*app.py", line 1[01], in spin')
        (up.directory / "go").touch()
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert up.log().count("has been blocked for") == 2  # once by the master, once by the worker


def test_a_short_time_may_be_too_long(server: Start) -> None:
    up = server(f"worker_block_warn 50\n{CONF}", app=APP, workers=1)
    with begin(up, "/spin"):
        up.says(r"proc=\[wrk 1\] log=\[the hub has been blocked for \d+ ms")
        (up.directory / "go").touch()


def test_a_worker_that_stays_blocked_is_replaced(server: Start) -> None:
    up = server(f"worker_block_warn 0\nworker_timeout 2\n{CONF}", app=APP, workers=1)
    [stuck] = up.workers
    with begin(up, "/hold"):
        until(lambda: up.workers and stuck not in up.workers, up.log)
        assert up.get("/hello").text == str(up.workers[0])
    assert re.search(r'File ".*app.py", line \d+ in hold', up.log())  # faulthandler's trace
    assert "worker_timeout" in up.log()


def test_a_dump_names_what_each_task_waits_for(server: Start) -> None:
    up = server(f"worker_drain_time 0\n{CONF}", app=APP, workers=1)

    def found() -> set[str]:
        return set(re.findall(r"(task \d+ \(wait\)) waits for suspend\(60000\)", up.log()))

    def dumped() -> bool:
        up.signal(signal.SIGUSR2)  # again: the requests may not have been begun when it was asked before
        return len(found()) == 2

    with begin(up, "/wait"), begin(up, "/wait"):
        until(dumped, up.log)
        up.says(r'File ".*app.py", line \d+, in wait')
        up.stop()


def test_a_crash_leaves_a_trace(server: Start) -> None:
    up = server(CONF, app=APP, workers=1)
    with begin(up, "/crash"):
        up.says("was killed by SIGSEGV")
    assert "Fatal Python error: Segmentation fault" in up.log()
    assert re.search(r'File ".*app.py", line \d+ in crash', up.log())
