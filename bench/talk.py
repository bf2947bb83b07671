"""The websocket load, a process of its own: `talk.py PORT PATH BYTES CONNECTIONS echo|broadcast`, until SIGINT.

echo: every connection sends a binary message when the last one has come back. broadcast: the first connection sends
when all others have heard the last message. It prints what wrk's script prints (messages echoed or delivered, p99),
and the median latency. It keeps a core busier than the servers do: what it measures is their CPU time a message, not
their limit.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import struct
import sys
import time

KEY = b"AAAAAAAAAAAAAAAAAAAAAA=="
PAUSE = 0.2
"""Seconds that clients get to be connected everywhere before the first broadcast."""


class Client:
    """One connection, and how much of the next message it has."""

    __slots__ = ("have", "sent", "sock")

    def __init__(self, port: int, path: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(handshake(path))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = self.sock.recv(1)
            if not piece:
                raise ConnectionError(f"no handshake: {head!r}")
            head += piece
        if not head.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(head.decode("latin-1"))
        self.sock.setblocking(False)
        self.have = 0
        self.sent = 0.0

    def say(self, frame: bytes) -> None:
        self.sent = time.perf_counter()
        view = memoryview(frame)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                select.select([], [self.sock], [])


def handshake(path: str) -> bytes:
    return (
        b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % (path.encode(), KEY)
    )


def frame(size: int) -> bytes:
    """A binary message of zeros, masked: the key shows through."""
    mask = b"\x37\xfa\x21\x3d"
    length = bytes((0x80 | size,)) if size < 126 else struct.pack("!BH", 254, size) if size < 65536 else b""
    return b"\x82" + (length or struct.pack("!BQ", 255, size)) + mask + (mask * (size // 4 + 1))[:size]


def answer_size(size: int) -> int:
    return size + (2 if size < 126 else 4 if size < 65536 else 10)


class Talk:
    """All connections, and what they have measured."""

    def __init__(self, clients: list[Client], size: int, mode: str) -> None:
        self.clients = clients
        self.frame = frame(size)
        self.whole = answer_size(size)
        self.listeners = clients if mode == "echo" else clients[1:]
        self.source = None if mode == "echo" else clients[0]
        self.missing = 0
        self.latencies: list[float] = []

    def run(self) -> None:
        """Until SIGINT (KeyboardInterrupt)."""
        poll = select.epoll()
        by_fd = {client.sock.fileno(): client for client in self.clients}
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)
        for client in self.clients if self.source is None else [self.source]:
            client.say(self.frame)
        self.missing = len(self.listeners)
        while True:
            for fd, _ in poll.poll():
                self.hear(by_fd[fd])

    def hear(self, client: Client) -> None:
        data = client.sock.recv(262144)
        if not data:
            raise ConnectionError("the server closed a connection")
        client.have += len(data)
        while client.have >= self.whole:
            client.have -= self.whole
            if self.source is None:
                self.latencies.append(time.perf_counter() - client.sent)
                client.say(self.frame)
                continue
            self.latencies.append(time.perf_counter() - self.source.sent)
            self.missing -= 1
            if not self.missing:
                self.missing = len(self.listeners)
                self.source.say(self.frame)


def main(port: str, path: str, size: str, connections: str, mode: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    talk = Talk([Client(int(port), path) for _ in range(int(connections))], int(size), mode)
    if mode == "broadcast":
        time.sleep(PAUSE)
    start = time.perf_counter()
    errors = 0
    try:
        print("READY", flush=True)
        talk.run()
    except KeyboardInterrupt:
        pass
    except OSError:
        errors = 1
    seconds = time.perf_counter() - start
    found = sorted(talk.latencies)
    p99 = found[int(len(found) * 0.99)] * 1e6 if found else 0.0
    p50 = found[len(found) // 2] * 1e6 if found else 0.0
    counts = {"requests": len(found), "refused": 0, "errors": errors, "seconds": seconds}
    print("JSON", json.dumps(counts | {"p50_us": p50, "p99_us": p99}))


if __name__ == "__main__":
    main(*sys.argv[1:])
