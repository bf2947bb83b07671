"""Reload again and again under load (SIGHUP every two seconds): no request may fail, none may be refused.

    python -m bench.reloading [SECONDS]

Two wrks ask as fast as they are answered: one keeps its connections, one makes a new one for each request.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

from bench.checkout import Checkout, serve
from bench.load import LUA

APP = """
import kore

def hello(req):
    req.response(200, b"hello")
"""
CONF = "bind 127.0.0.1 {port}\nworkers 4\npython_import app.py\ndomain * {{\n    route / hello\n}}\n"
PAUSE = 2.0
KINDS = {"kept": [], "new": ["-H", "Connection: close"]}
CONNECTIONS = 16
NICE = ("nice", "-n", "10")
"""A new generation imports its code on what the load leaves of the machine: wrk alone would take all of it."""


def load(port: int, fields: list[str], seconds: int) -> subprocess.Popen[str]:
    how = ["-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "-s", str(LUA), *fields]
    command = [*NICE, "wrk", *how, f"http://127.0.0.1:{port}/", "--", "1", "0"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def reload(server: Checkout, loads: list[subprocess.Popen[str]]) -> int:
    """SIGHUP every PAUSE seconds until the load ends; how often."""
    times = 0
    due = time.monotonic() + PAUSE
    while any(one.poll() is None for one in loads):
        time.sleep(max(0.0, due - time.monotonic()))
        due += PAUSE
        server.process.send_signal(signal.SIGHUP)
        times += 1
    return times


def main(seconds: int) -> int:
    """The number of requests that failed, 1 for anything else that went wrong; 0 is what should be."""
    with serve(APP, CONF) as server:
        loads = {kind: load(server.port, fields, seconds) for kind, fields in KINDS.items()}
        times = reload(server, list(loads.values()))
        found = {kind: counted(one) for kind, one in loads.items()}
        pid = server.pid
    failed = sum(int(one["errors"] + one["refused"]) for one in found.values())
    for kind, one in found.items():
        print(
            f"{kind:>5} connections: {int(one['requests'])} requests served, {int(one['errors'])} failed, "
            f"{int(one['refused'])} answered with something else than 200, p99 {one['p99_us'] / 1000:.1f} ms"
        )
    ready = server.count("log=[ready: ")
    print(f"{times} SIGHUPs to pid {pid}, of which {ready - 1} generations came into office; {failed} requests failed")
    return failed or int(ready < 2 or any(not one["requests"] for one in found.values()))


def counted(one: subprocess.Popen[str]) -> dict[str, float]:
    output, _ = one.communicate()
    for line in output.splitlines():
        if line.startswith("JSON "):
            result: dict[str, float] = json.loads(line.removeprefix("JSON "))
            return result
    raise RuntimeError(f"wrk failed: {output}")


if __name__ == "__main__":
    sys.exit(main(int((sys.argv[1:] or ["60"])[0])))
