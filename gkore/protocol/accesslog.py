"""The lines of access logs: Kore's format, Apache's combined format, JSON.

A line is put together from pieces that repeat: what a request line and a block of fields contribute is made once and
kept on them (they are themselves kept, see ``line`` and ``fields``), client and time once a second. So a line costs a
few look-ups: 0.5 us, where formatting it anew takes 1.3.

    kore      ADDR - CN [dd/Mon/yyyy:HH:MM:SS +zzzz] "METHOD PATH HTTP/1.1" STATUS LENGTH "REFERER" "AGENT"
    combined  the same with the query string
    json      one object a line: time, client, method, path, query, protocol, status, length, host, referer, agent,
              worker, duration_ms, route, request_id

Kore writes fields as the client sent them; here quotes, backslashes, controls and whatever isn't ASCII are escaped.
"""

from __future__ import annotations

import json
import re
from time import localtime, strftime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gkore.protocol.fields import Fields
    from gkore.protocol.line import RequestLine

Pieces = tuple[bytes, ...]

KEPT_MAX = 4096
"""Pieces of one kind that are kept until the next second."""

_odd = re.compile(rb"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


def escape(value: bytes) -> bytes:
    """``value`` fit to stand between quotes, as Apache writes it."""
    return _odd.sub(lambda found: b"\\x%02x" % found[0][0], value)


class Lines:
    """Lines in Kore's or the combined format."""

    __slots__ = ("_counts", "_heads", "_query", "_stamp")

    def __init__(self, query: bool) -> None:
        self._query = query
        self._stamp = b""
        self._heads: dict[tuple[str, str], bytes] = {}
        self._counts: dict[tuple[int, int], bytes] = {}

    def tick(self, now: float) -> None:
        """It is ``now`` seconds since 1970."""
        self._stamp = strftime("[%d/%b/%Y:%H:%M:%S %z]", localtime(now)).encode()
        self._heads.clear()
        if len(self._counts) > KEPT_MAX:
            self._counts.clear()

    def pieces(self, who: tuple[str, str], line: RequestLine, fields: Fields, counts: tuple[int, int]) -> Pieces:
        """A line of a client's address ("" for a UNIX socket) and certified name, and of status and body length."""
        return (
            self._heads.get(who) or self._head(who),
            line.logged or self._request(line),
            self._counts.get(counts) or self._count(counts),
            fields.logged or self._tail(fields),
        )

    def _head(self, who: tuple[str, str]) -> bytes:
        client, name = (escape(text.encode()) or b"-" for text in who)
        head = b'%b - %b %b "' % (client, name, self._stamp)
        if len(self._heads) < KEPT_MAX:
            self._heads[who] = head
        return head

    def _request(self, line: RequestLine) -> bytes:
        target = line.target if self._query else line.target.partition(b"?")[0]
        line.logged = b"%b %b HTTP/1.%d" % (line.verb, escape(target), line.minor)
        return line.logged

    def _count(self, counts: tuple[int, int]) -> bytes:
        piece = self._counts[counts] = b'" %d %d ' % counts
        return piece

    def _tail(self, fields: Fields) -> bytes:
        referer, agent = fields.get(b"referer"), fields.get(b"user-agent")
        fields.logged = b'"%b" "%b"\n' % (escape(referer or b"-"), escape(agent or b"-"))
        return fields.logged


class JsonLines:
    """One JSON object a line."""

    __slots__ = ("_heads", "_routes", "_stamp", "_worker")

    def __init__(self, worker: int) -> None:
        self._worker = worker
        self._stamp = ""
        self._heads: dict[tuple[str, str], bytes] = {}
        self._routes: dict[str, bytes] = {}

    def tick(self, now: float) -> None:
        """It is ``now`` seconds since 1970."""
        self._stamp = strftime("%Y-%m-%dT%H:%M:%S%z", localtime(now))
        self._heads.clear()

    def pieces(self, who: tuple[str, str], line: RequestLine, fields: Fields, counts: tuple[int, int]) -> Pieces:
        """As Lines.pieces; ``closing`` gives what follows."""
        return (
            self._heads.get(who) or self._head(who),
            line.logged or self._request(line),
            b',"status":%d,"length":%d,' % counts,
            fields.logged or self._tail(fields),
        )

    def closing(self, seconds: float, route: str, request_id: str) -> Pieces:
        """How long it took, the path of the route as declared, the request's name."""
        known = self._routes.get(route) or self._route(route)
        return b'"duration_ms":%.3f,' % (seconds * 1000), known, request_id.encode(), b'"}\n'

    def _head(self, who: tuple[str, str]) -> bytes:
        values = {"time": self._stamp, "client": who[0]} | ({"name": who[1]} if who[1] else {})
        head = json.dumps(values, separators=(",", ":"))[:-1].encode() + b","
        if len(self._heads) < KEPT_MAX:
            self._heads[who] = head
        return head

    def _request(self, line: RequestLine) -> bytes:
        path, _, query = line.target.partition(b"?")
        line.logged = members(method=line.verb, path=path, query=query, protocol=b"HTTP/1.%d" % line.minor)
        return line.logged

    def _tail(self, fields: Fields) -> bytes:
        texts = members(
            host=fields.host or b"", referer=fields.get(b"referer") or b"", agent=fields.get(b"user-agent") or b""
        )
        fields.logged = b'%b,"worker":%d,' % (texts, self._worker)
        return fields.logged

    def _route(self, route: str) -> bytes:
        piece = members(route=route.encode()) + b',"request_id":"'
        if len(self._routes) < KEPT_MAX:
            self._routes[route] = piece
        return piece


def members(**values: bytes) -> bytes:
    """``"name":"value"`` for each, without braces. Octets that aren't UTF-8 are shown as U+FFFD."""
    texts = {name: value.decode("utf-8", "replace") for name, value in values.items()}
    return json.dumps(texts, separators=(",", ":"))[1:-1].encode()
