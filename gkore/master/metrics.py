"""``metrics ADDR:PORT``: /metrics for Prometheus, /live and /ready for load balancers, from the master's own loop.

It answers GET and HEAD, one request a connection, at most 32 connections of 5 seconds: a busy or blocked worker can't
keep it from answering, and nobody can keep the master from its work through it.
"""

from __future__ import annotations

from socket import AF_INET6, AI_PASSIVE, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, getaddrinfo, socket
from typing import TYPE_CHECKING, Any

from gkore import log
from gkore.errors import StartError
from gkore.master.address import advice
from gkore.master.door import Caller, Door, Policy
from gkore.master.status import prometheus, ready

if TYPE_CHECKING:
    from gkore.master.fleet import Fleet

POLICY = Policy(callers=32, asked=8192, newest=True)
TEXT = "text/plain; version=0.0.4; charset=utf-8"
REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class Metrics:
    """The pages and the door to them."""

    def __init__(self, fleet: Fleet) -> None:
        self.address = ""
        self.door = Door(self._heard, POLICY)
        self._fleet = fleet

    def open(self, address: str) -> None:
        """Listen at ``ADDR:PORT``, or no more for "". StartError when that can't be."""
        if address == self.address:
            return
        self.door.close()
        self.address = address
        if not address:
            return
        try:
            sock = _listening(address)
        except OSError as failure:
            raise StartError(f"metrics {address}: can't listen there: {advice(failure)}") from None
        self.door.open(sock)
        name = sock.getsockname()
        where = f"[{name[0]}]:{name[1]}" if sock.family == AF_INET6 else f"{name[0]}:{name[1]}"
        log.notice(f"metrics, /live and /ready on http://{where}")

    def _heard(self, caller: Caller) -> None:
        if b"\r\n\r\n" in caller.said:
            caller.answer(self.response(caller.said))

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

    def bequeath(self) -> dict[str, Any]:
        return {"address": self.address, **self.door.bequeath()}

    def inherit(self, entry: dict[str, Any]) -> None:
        self.address = entry["address"]
        self.door.inherit(entry)


def _listening(address: str) -> socket:
    host, _, port = address.rpartition(":")
    family, _, _, _, sockaddr = getaddrinfo(host.strip("[]") or None, port, type=SOCK_STREAM, flags=AI_PASSIVE)[0]
    sock = socket(family, SOCK_STREAM)
    try:
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(sockaddr)
        sock.listen(POLICY.callers)
    except BaseException:
        sock.close()
        raise
    return sock
