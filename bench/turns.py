"""Many open connections, a few requests at once: `turns.py PORT PATH CONNECTIONS ASKING`, a process of its own.

ASKING of the CONNECTIONS ask in turn, 64 requests at a time; the others have had one answer and stay open. Says READY
once all are open, then JSON at SIGINT.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import sys
import time
from collections import deque

AT_ONCE = 64
BLANK = b"\r\n\r\n"


class Turns:
    """The clients of which some ask, and what was answered."""

    def __init__(self, port: int, path: str, connections: int, asking: int) -> None:
        self.request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        self.clients = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(min(connections, AT_ONCE))]
        self.size = self.first(self.clients)
        while len(self.clients) < connections:
            batch = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(AT_ONCE)]
            self.first(batch)
            self.clients += batch
        self.idle = deque(self.clients[:asking])
        self.answered = 0

    def first(self, clients: list[socket.socket]) -> int:
        """One request each; the size of an answer."""
        for client in clients:
            client.sendall(self.request)
        size = 0
        for client in clients:
            answer = b""
            while BLANK not in answer or not answer.endswith(b"hello world"):
                piece = client.recv(65536)
                if not piece:
                    raise ConnectionError("the server closed a connection")
                answer += piece
            size = len(answer)
        return size

    def run(self) -> None:
        """Until SIGINT (KeyboardInterrupt)."""
        poll = select.epoll()
        by_fd = {client.fileno(): client for client in self.idle}
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)
        for _ in range(min(AT_ONCE, len(self.idle))):
            self.idle.popleft().send(self.request)
        buffer = bytearray(65536)
        while True:
            for fd, _ in poll.poll():
                client = by_fd[fd]
                if client.recv_into(buffer) != self.size:  # small enough to come in one piece
                    raise ConnectionError("an answer of another size")
                self.answered += 1
                self.idle.append(client)
                self.idle.popleft().send(self.request)


def main(port: str, path: str, connections: str, asking: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    turns = Turns(int(port), path, int(connections), int(asking))
    start = time.perf_counter()
    errors = 0
    try:
        print("READY", flush=True)
        turns.run()
    except KeyboardInterrupt:
        pass
    except OSError:
        errors = 1
    seconds = time.perf_counter() - start
    result = {"requests": turns.answered, "refused": 0, "errors": errors, "seconds": seconds, "p99_us": 0}
    print("JSON", json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
