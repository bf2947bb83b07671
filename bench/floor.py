"""The floor in pure Python: epoll, recv, count blank lines, send that many fixed answers. No parser, no limits.

No server in Python can be cheaper on this machine. By hand `floor.py PORT`, in the bench `--server floor`.
"""

from __future__ import annotations

import select
import socket
import sys

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 11\r\n\r\nhello world"
LAST_ANSWER = ANSWER.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")


def serve(port: int) -> None:
    """Answer on 127.0.0.1 until killed. A request whose blank line is split over two packets is lost: it is a floor."""
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    while True:
        for descriptor, _ in epoll.poll():
            client = clients.get(descriptor)
            if client is None:
                accept(listener, epoll, clients)
            elif not answer(client):
                clients.pop(descriptor).close()


def accept(listener: socket.socket, epoll: select.epoll, clients: dict[int, socket.socket]) -> None:
    client, _ = listener.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    clients[client.fileno()] = client
    epoll.register(client, select.EPOLLIN)


def answer(client: socket.socket) -> bool:
    """Whether the client is still there."""
    try:
        data = client.recv(16384)
        if not data:
            return False
        last = b"onnection: close" in data
        client.sendall(LAST_ANSWER if last else ANSWER * data.count(b"\r\n\r\n"))
    except OSError:
        return False
    return not last


if __name__ == "__main__":
    serve(int(sys.argv[1]))
