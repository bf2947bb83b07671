"""``metrics ADDR:PORT``: /metrics for Prometheus, /live and /ready for load balancers, from the master's own loop.

It answers GET and HEAD, one request a connection, at most 32 connections of 5 seconds: a busy or blocked worker can't
keep it from answering, and nobody can keep the master from its work through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from select import POLLIN
from socket import AF_INET6, AI_PASSIVE, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, getaddrinfo, socket
from time import monotonic
from typing import TYPE_CHECKING, Any

from gkore import log
from gkore.errors import StartError
from gkore.master.status import prometheus, ready

if TYPE_CHECKING:
    from gkore.master.fleet import Fleet

CLIENTS_MAX = 32
REQUEST_MAX = 8192
TIME_MAX = 5.0
TEXT = "text/plain; version=0.0.4; charset=utf-8"
REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class Client:
    """One connection, for one request."""

    events = POLLIN

    def __init__(self, sock: socket, metrics: Metrics) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.deadline = monotonic() + TIME_MAX
        self._metrics = metrics
        self._said = b""

    def fileno(self) -> int:
        return self.sock.fileno()

    def act(self, _: int) -> None:
        try:
            data = self.sock.recv(REQUEST_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._said += data
        if b"\r\n\r\n" in self._said:
            with suppress(OSError):  # what its buffer does not take, it does not get
                self.sock.send(self._metrics.response(self._said))
            self._metrics.leave(self)
        elif not data or len(self._said) > REQUEST_MAX:
            self._metrics.leave(self)


class Metrics:
    """The listening socket and its clients."""

    events = POLLIN

    def __init__(self, fleet: Fleet) -> None:
        self.address = ""
        self._fleet = fleet
        self._sock: socket | None = None
        self._clients: list[Client] = []

    def open(self, address: str) -> None:
        """Listen at ``ADDR:PORT``, or no more for "". StartError when that can't be."""
        if address == self.address:
            return
        self.close()
        self.address = address
        if not address:
            return
        host, _, port = address.rpartition(":")
        try:
            family, _, _, _, sockaddr = getaddrinfo(host.strip("[]") or None, port, type=SOCK_STREAM, flags=AI_PASSIVE)[
                0
            ]
            self._sock = socket(family, SOCK_STREAM)
            self._sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            self._sock.setblocking(False)
            self._sock.bind(sockaddr)
            self._sock.listen(CLIENTS_MAX)
        except OSError as failure:
            raise StartError(f"metrics {address}: can't listen there: {failure.strerror or failure}") from None
        name = self._sock.getsockname()
        where = f"[{name[0]}]:{name[1]}" if family == AF_INET6 else f"{name[0]}:{name[1]}"
        log.notice(f"metrics, /live and /ready on http://{where}")

    def response(self, request: bytes) -> bytes:
        """The whole answer to the head of a request."""
        verb, _, rest = request.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        status, text = self._page(path) if verb in (b"GET", b"HEAD") else (405, "GET or HEAD\n")
        body = text.encode()
        head = (
            f"HTTP/1.1 {status} {REASONS[status]}\r\ncontent-type: {TEXT}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        ).encode()
        return head if verb == b"HEAD" else head + body

    def _page(self, path: bytes) -> tuple[int, str]:
        if path == b"/metrics":
            return 200, prometheus(self._fleet)
        if path == b"/live":
            return 200, "live\n"
        if path == b"/ready":
            return (200, "ready\n") if ready(self._fleet) else (503, "not ready\n")
        return 404, "/metrics, /live or /ready\n"

    def sources(self) -> Iterator[Metrics | Client]:
        if self._sock is not None:
            yield self
        yield from self._clients

    def sockets(self) -> Iterable[socket]:
        yield from (client.sock for client in self._clients)
        if self._sock is not None:
            yield self._sock

    def fileno(self) -> int:
        assert self._sock is not None
        return self._sock.fileno()

    def act(self, _: int) -> None:
        assert self._sock is not None
        try:
            sock, _address = self._sock.accept()
        except OSError:
            return
        if len(self._clients) >= CLIENTS_MAX:
            self.leave(self._clients[0])
        self._clients.append(Client(sock, self))

    def leave(self, client: Client) -> None:
        self._clients.remove(client)
        client.sock.close()

    def tick(self, now: float) -> None:
        """Hang up on clients that are too slow."""
        for client in [client for client in self._clients if now > client.deadline]:
            self.leave(client)

    def close(self) -> None:
        for sock in self.sockets():
            sock.close()
        self._sock = None
        self._clients.clear()

    # From one program of the master to the next.

    def bequeath(self) -> dict[str, Any]:
        return {"address": self.address, "descriptor": self._sock.fileno() if self._sock else None}

    def inherit(self, entry: dict[str, Any]) -> None:
        self.address = entry["address"]
        if entry["descriptor"] is not None:
            self._sock = socket(fileno=entry["descriptor"])
            self._sock.set_inheritable(False)
