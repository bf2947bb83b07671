"""The lines of access logs: Kore's format, Apache's combined format, JSON.

A line is put together from pieces that repeat: what a request line and a block of fields contribute is made once and
kept on them (they are themselves kept, see ``line`` and ``fields``), the time once a second.

    kore      ADDR - CN [dd/Mon/yyyy:HH:MM:SS +zzzz] "METHOD PATH HTTP/1.1" STATUS LENGTH "REFERER" "AGENT"
    combined  the same with the query string
    json      one object a line: time, client, host, method, path, query, protocol, status, length, duration_ms,
              referer, agent, worker, route, request_id

Kore writes fields as the client sent them; here quotes, backslashes, controls and whatever isn't ASCII are escaped.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from time import localtime, strftime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gkore.protocol.fields import Fields
    from gkore.protocol.line import RequestLine

_odd = re.compile(rb"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


JSON = (
    b'{"time":"%b","client":"%b",%b,"status":%d,"length":%d,"duration_ms":%.3f,%b,"worker":%d,%b,"request_id":"%b"}\n'
)


@dataclass(slots=True)
class Entry:
    """One answered request."""

    line: RequestLine
    fields: Fields
    status: int
    length: int
    client: str
    """Address; "" for a UNIX socket."""
    name: str = ""
    """The common name of the client's certificate."""
    seconds: float = 0.0
    route: str = ""
    request_id: str = ""


def escape(value: bytes) -> bytes:
    """``value`` fit to stand between quotes, as Apache writes it."""
    return _odd.sub(lambda found: b"\\x%02x" % found[0][0], value)


class Lines:
    """Lines in Kore's or the combined format."""

    __slots__ = ("_query", "_stamp")

    def __init__(self, query: bool) -> None:
        self._query = query
        self._stamp = b""

    def tick(self, now: float) -> None:
        """It is ``now`` seconds since 1970."""
        self._stamp = strftime("[%d/%b/%Y:%H:%M:%S %z]", localtime(now)).encode()

    def line(self, entry: Entry) -> bytes:
        asked, said = entry.line, entry.fields
        request = asked.logged or self._request(asked)
        tail = said.logged or self._tail(said)
        client = entry.client.encode() or b"-"
        name = escape(entry.name.encode()) if entry.name else b"-"
        return b'%b - %b %b "%b" %d %d %b\n' % (client, name, self._stamp, request, entry.status, entry.length, tail)

    def _request(self, line: RequestLine) -> bytes:
        target = line.target if self._query else line.target.partition(b"?")[0]
        line.logged = b"%b %b HTTP/1.%d" % (line.verb, escape(target), line.minor)
        return line.logged

    def _tail(self, fields: Fields) -> bytes:
        referer, agent = fields.get(b"referer"), fields.get(b"user-agent")
        fields.logged = b'"%b" "%b"' % (escape(referer or b"-"), escape(agent or b"-"))
        return fields.logged


class JsonLines:
    """One JSON object a line."""

    __slots__ = ("_routes", "_stamp", "_worker")

    def __init__(self, worker: int) -> None:
        self._worker = worker
        self._stamp = b""
        self._routes: dict[str, bytes] = {}

    def tick(self, now: float) -> None:
        """It is ``now`` seconds since 1970."""
        self._stamp = strftime("%Y-%m-%dT%H:%M:%S%z", localtime(now)).encode()

    def line(self, entry: Entry) -> bytes:
        asked, said = entry.line, entry.fields
        return JSON % (
            self._stamp,
            entry.client.encode(),
            asked.logged or self._request(asked),
            entry.status,
            entry.length,
            entry.seconds * 1000,
            said.logged or self._tail(said),
            self._worker,
            self._routes.get(entry.route) or self._route(entry.route),
            entry.request_id.encode(),
        )

    def _request(self, line: RequestLine) -> bytes:
        path, _, query = line.target.partition(b"?")
        line.logged = pairs(method=line.verb, path=path, query=query, protocol=b"HTTP/1.%d" % line.minor)
        return line.logged

    def _tail(self, fields: Fields) -> bytes:
        fields.logged = pairs(
            host=fields.host or b"", referer=fields.get(b"referer") or b"", agent=fields.get(b"user-agent") or b""
        )
        return fields.logged

    def _route(self, route: str) -> bytes:
        piece = pairs(route=route.encode())
        if len(self._routes) < 1024:
            self._routes[route] = piece
        return piece


def pairs(**values: bytes) -> bytes:
    """``"name":"value"`` for each, without braces. Octets that aren't UTF-8 are shown as U+FFFD."""
    texts = {name: value.decode("utf-8", "replace") for name, value in values.items()}
    return json.dumps(texts, separators=(",", ":"))[1:-1].encode()
