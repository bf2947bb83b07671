"""Kill a random worker every second under load: only what was on its connections may fail, and nobody is ever refused.

    python -m bench.killing [SECONDS]

Half of the clients keep their connections, half make a new one for each request; all ask as fast as they are answered.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

APP = """
import os
import kore

def pid(req):
    req.response(200, str(os.getpid()).encode())
"""
CONF = "bind 127.0.0.1 {port}\nworkers 4\npython_import app.py\ndomain * {{\n    route /pid pid\n}}\n"
PATIENCE = 30
"""Seconds that one answer may take: no request hangs."""
CLIENTS = 6


class Client:
    """One client, on a thread of its own until ``over`` is set."""

    def __init__(self, port: int, keeps: bool, killed: set[int], over: threading.Event) -> None:
        self.port = port
        self.keeps = keeps
        self.killed = killed
        self.over = over
        self.served = 0
        self.lost = 0
        """Connections that ended without an answer."""
        self.slowest = 0.0
        """Seconds."""
        self.wrong: list[str] = []
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        while not self.over.is_set() and len(self.wrong) < 10:
            try:
                sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
            except OSError as failure:
                self.wrong.append(f"connect: {failure!r}")
                continue
            with sock:
                self.talk(sock)

    def talk(self, sock: socket.socket) -> None:
        worker = 0
        close = b"" if self.keeps else b"connection: close\r\n"
        while not self.over.is_set():
            begun = time.monotonic()
            try:
                sock.sendall(b"GET /pid HTTP/1.1\r\nhost: x\r\n%b\r\n" % close)
                answer = sock.recv(4096)
            except ConnectionError:
                answer = b""
            except OSError as failure:
                self.wrong.append(f"request: {failure!r}")
                return
            self.slowest = max(self.slowest, time.monotonic() - begun)
            if not answer:
                self.lost += 1
                # Who never answered here was killed after it had accepted; by its name we only know the others.
                if worker and worker not in self.killed:
                    self.wrong.append(f"worker {worker} was not killed and hung up")
                return
            if not answer.startswith(b"HTTP/1.1 200"):
                self.wrong.append(repr(answer))
                return
            worker = int(answer.rpartition(b"\r\n")[2])
            self.served += 1
            if not self.keeps:
                return


def kill(port: int, workers: Callable[[], list[int]], kills: int, pause: Callable[[list[Client]], object]) -> str:
    """Load the server and kill a worker of it so often, with ``pause(clients)`` behind each; what went wrong, or ""."""
    killed: set[int] = set()
    over = threading.Event()
    clients = [Client(port, number % 2 == 0, killed, over) for number in range(CLIENTS)]
    try:
        for _ in range(kills):
            victim = random.choice(workers())
            killed.add(victim)
            os.kill(victim, signal.SIGKILL)
            pause(clients)
    finally:
        over.set()
        for client in clients:
            client.thread.join()
    served, lost = (sum(getattr(client, name) for client in clients) for name in ("served", "lost"))
    slowest = max(client.slowest for client in clients)
    print(f"{kills} kills: {served} requests served, {lost} lost with their worker, the slowest took {slowest:.2f} s")
    wrong = [text for client in clients for text in client.wrong]
    if lost > kills * CLIENTS:
        wrong.append(f"{lost} requests lost with {kills} workers and {CLIENTS} clients: more than were in flight")
    return "\n".join(wrong)


def children(pid: int) -> list[int]:
    """The workers of a master."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def main(seconds: int) -> int:
    with socket.socket() as free, tempfile.TemporaryDirectory() as directory:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        Path(directory, "app.py").write_text(APP)
        Path(directory, "kore.conf").write_text(CONF.format(port=port))
        command = [sys.executable, "-m", "gkore", "-nrc", "kore.conf"]
        path = os.pathsep.join((str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
        env = {**os.environ, "PYTHONPATH": path}
        with subprocess.Popen(command, cwd=directory, env=env, stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None
            for line in server.stderr:
                if "log=[ready: " in line:
                    break
            threading.Thread(target=server.stderr.read, daemon=True).start()
            wrong = kill(port, lambda: children(server.pid), seconds, lambda _: time.sleep(1))
            server.terminate()
    print(wrong or "nothing else failed, nobody was refused")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(int((sys.argv[1:] or ["60"])[0])))
