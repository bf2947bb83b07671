"""The websocket load, a process of its own: `talk.py PORT PATH BYTES CONNECTIONS echo|broadcast`, until SIGINT.

echo: every connection sends a binary message when the last one has come back. broadcast: the first connection sends
when all others have heard the last message. It prints what wrk's script prints (messages echoed or delivered, p99),
and the median latency. To keep a server in C busy it does little else than two system calls for an echo: it reads into
one buffer, and only every SAMPLED-th message is timed.
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
SAMPLED = 16
PAUSE = 0.2
"""Seconds that clients get to be connected everywhere before the first broadcast."""


class Client:
    """One connection, and how much of the next message it has."""

    __slots__ = ("have", "recv_into", "send", "sent", "sock")

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
        self.recv_into = self.sock.recv_into
        self.send = self.sock.send
        self.have = 0
        self.sent = 0.0

    def say(self, frame: bytes, sent: int = 0) -> None:
        """Send ``frame``, of which the first ``sent`` bytes are on their way."""
        view = memoryview(frame)[sent:]
        while view:
            try:
                view = view[self.send(view) :]
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

    def __init__(self, clients: list[Client], size: int) -> None:
        self.clients = clients
        self.frame = frame(size)
        self.whole = answer_size(size)
        self.buffer = bytearray(262144)
        self.heard = 0
        self.latencies: list[float] = []

    def poll(self, clients: list[Client]) -> tuple[select.epoll, dict[int, Client]]:
        poll = select.epoll()
        for client in clients:
            poll.register(client.sock.fileno(), select.EPOLLIN)
        return poll, {client.sock.fileno(): client for client in clients}

    def echo(self) -> None:
        """Everybody sends again as soon as the last message has come back; until SIGINT (KeyboardInterrupt)."""
        poll, by_fd = self.poll(self.clients)
        frame, whole, size, buffer, clock = self.frame, self.whole, len(self.frame), self.buffer, time.perf_counter
        countdown = SAMPLED
        for client in self.clients:
            client.say(frame)
        while True:
            for fd, _ in poll.poll():
                client = by_fd[fd]
                got = client.recv_into(buffer)
                if got != whole:
                    client.have += self.some(got)
                    if client.have < whole:
                        continue
                    client.have = 0  # one message at a time is under way
                self.heard += 1
                countdown -= 1
                if client.sent:
                    self.latencies.append(clock() - client.sent)
                    client.sent = 0.0
                if not countdown:
                    countdown = SAMPLED
                    client.sent = clock()
                try:
                    sent = client.send(frame)
                except BlockingIOError:
                    sent = 0
                if sent != size:
                    client.say(frame, sent)

    def broadcast(self) -> None:
        """The first one sends when all others have heard its last message; until SIGINT (KeyboardInterrupt)."""
        source, *listeners = self.clients
        poll, by_fd = self.poll(listeners)
        while True:
            missing = len(listeners)
            begun = time.perf_counter()
            source.say(self.frame)
            while missing:
                for fd, _ in poll.poll():
                    client = by_fd[fd]
                    client.have += self.some(client.recv_into(self.buffer))
                    if client.have >= self.whole:
                        client.have -= self.whole
                        missing -= 1
                        self.heard += 1
                        self.latencies.append(time.perf_counter() - begun)

    def some(self, got: int) -> int:
        if not got:
            raise ConnectionError("the server closed a connection")
        return got


def main(port: str, path: str, size: str, connections: str, mode: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    talk = Talk([Client(int(port), path) for _ in range(int(connections))], int(size))
    if mode == "broadcast":
        time.sleep(PAUSE)
    start = time.perf_counter()
    errors = 0
    try:
        print("READY", flush=True)
        talk.echo() if mode == "echo" else talk.broadcast()
    except KeyboardInterrupt:
        pass
    except OSError:
        errors = 1
    seconds = time.perf_counter() - start
    found = sorted(talk.latencies)
    p99 = found[int(len(found) * 0.99)] * 1e6 if found else 0.0
    p50 = found[len(found) // 2] * 1e6 if found else 0.0
    counts = {"requests": talk.heard, "refused": 0, "errors": errors, "seconds": seconds}
    print("JSON", json.dumps(counts | {"p50_us": p50, "p99_us": p99}))


if __name__ == "__main__":
    main(*sys.argv[1:])
