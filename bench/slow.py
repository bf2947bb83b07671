"""Slow clients by the thousand (slowhttptest), and what the others notice of them.

    python -m bench.slow [SECONDS [MAX_CONNECTIONS]]

Three attacks after each other: headers, bodies, and answers that are not read. Another client goes on asking, every
other request on a new connection, alone and beside each attack. Where it may, the server runs on a core of its own, and
it and the client come before all other processes (SCHED_FIFO): what is compared is the server, not who gets a CPU.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field

from bench.checkout import Checkout, serve
from bench.machine import Cores, first_line, raise_descriptor_limit
from bench.running import read_answer
from gkore.remote import ask

APP = """
import kore

LARGE = b"x" * (1 << 20)

def hello(req):
    req.response(200, b"hello")

def large(req):
    req.response(200, LARGE)

def take(req):
    req.response(200, str(len(req.body or b"")).encode())
"""
CONF = """bind 127.0.0.1 {port}
workers 1
worker_max_connections {most}
worker_rlimit_nofiles 4096
http_header_timeout 120
http_body_timeout 120
http_request_limit 4096
python_import app.py
domain * {{
    route / hello
    route /large large
    route /take {{
        handler take
        methods get post
    }}
}}
"""
CROWD = 1000
ATTACKS = {
    "headers": ["-H", "-u", "http://127.0.0.1:{port}/", "-i", "1", "-x", "24"],
    "bodies": ["-B", "-u", "http://127.0.0.1:{port}/take", "-i", "1", "-s", "8192", "-x", "24"],
    "reads": ["-X", "-u", "http://127.0.0.1:{port}/large", "-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-k", "3"],
}
EVERY = 0.002
"""Seconds between two requests of the other client."""
PATIENCE = 10.0
GATHERING = 20.0
"""Seconds in which all connections of an attack must stand."""
FIRST = 10
"""The priority of server and client among SCHED_FIFO."""


@dataclass(slots=True)
class Asked:
    """What one client saw."""

    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def share(self, part: float) -> float:
        """Milliseconds within which so many of the answers came."""
        found = sorted(self.seconds) or [PATIENCE]
        return found[min(len(found) - 1, int(len(found) * part))] * 1000

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {self.share(part):.2f}" for name, part in SHARES.items())
        return f"{len(self.seconds)} requests, ms: {figures}; {len(self.wrong)} failed"


SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "slowest": 1.0}


def probe(port: int, seconds: float) -> Asked:
    """Ask every EVERY seconds, on a connection that is kept and on a new one in turn."""
    asked = Asked()
    kept = socket.create_connection(("127.0.0.1", port), PATIENCE)
    end = time.monotonic() + seconds
    turn = 0
    while (begun := time.monotonic()) < end:
        turn += 1
        try:
            if turn % 2:
                answer = exchange(kept)
            else:
                with socket.create_connection(("127.0.0.1", port), PATIENCE) as fresh:
                    answer = exchange(fresh)
        except OSError as failure:
            asked.wrong.append(repr(failure))
            kept = socket.create_connection(("127.0.0.1", port), PATIENCE)
            continue
        asked.seconds.append(time.monotonic() - begun)
        if not answer.startswith(b"HTTP/1.1 200"):
            asked.wrong.append(repr(answer[:100]))
        time.sleep(max(0.0, EVERY - (time.monotonic() - begun)))
    kept.close()
    return asked


def exchange(client: socket.socket) -> bytes:
    client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    return read_answer(client)


def attack(server: Checkout, words: list[str], seconds: int) -> tuple[Asked, int, int]:
    """What the other client sees meanwhile; how many connections the attack had when it began, and when it ended."""
    words = [word.format(port=server.port) for word in words]
    length = str(int(seconds + GATHERING))
    command = ["slowhttptest", *words, "-c", str(CROWD), "-r", str(CROWD // 4), "-l", length, "-p", "20", "-v", "0"]
    with tempfile.TemporaryFile() as output, subprocess.Popen(command, stdout=output, stderr=output) as attacker:
        try:
            end = time.monotonic() + GATHERING
            while connections(server) < CROWD and attacker.poll() is None and time.monotonic() < end:
                time.sleep(0.1)
            before = connections(server)
            asked = probe(server.port, seconds)
            return asked, before, connections(server)
        finally:
            attacker.kill()


def connections(server: Checkout) -> int:
    return sum(worker["connections"] for worker in ask(str(server.control), "status")["workers"])


def first_in_line() -> list[str]:
    """Run before all others from now on, where that is allowed; the words that do it for a command."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(FIRST))
    except PermissionError:
        print("not allowed to run before others (SCHED_FIFO): the figures depend on who else is here")
        return []
    return ["chrt", "-f", str(FIRST)]


def quiet(server: Checkout) -> None:
    """Wait until the attack's connections have gone."""
    end = time.monotonic() + GATHERING
    while connections(server) and time.monotonic() < end:
        time.sleep(0.1)


def main(seconds: int = 20, most: int = 2048) -> int:
    """1 when a request of the other client failed, or its p99 more than doubled."""
    raise_descriptor_limit(8192)
    print(re.sub(r".*version", "slowhttptest", first_line("slowhttptest", "-h") or "no slowhttptest"))
    worse = 0
    core = str(Cores.choose().server)
    with serve(APP, CONF.replace("{most}", str(most)), ("taskset", "-c", core, *first_in_line())) as server:
        for name, words in ATTACKS.items():
            alone = probe(server.port, seconds)
            beside, before, after = attack(server, words, seconds)
            quiet(server)
            worse += bool(beside.wrong) or beside.share(0.99) > 2 * alone.share(0.99)
            print(f"{name}: {before} connections of the attack at the begin, {after} at the end")
            print(f"  alone   {alone}\n  beside  {beside}")
            for text in beside.wrong[:3]:
                print(f"  {text}")
    return int(worse > 0)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main(*map(int, sys.argv[1:])))
