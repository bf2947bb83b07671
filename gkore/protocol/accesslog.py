"""The lines of access logs: Kore's format, Apache's combined format, JSON.

A line is put together from pieces that repeat: what a request line and a block of fields contribute is made once and
kept on them (they are themselves kept, see ``line`` and ``fields``), client and time once a second. So a line costs a
few look-ups: 0.4 us, where formatting it anew takes 1.3.

    kore      ADDR - CN [dd/Mon/yyyy:HH:MM:SS +zzzz] "METHOD PATH HTTP/1.1" STATUS LENGTH "REFERER" "AGENT"
    combined  the same with the query string
    json      one object a line: time, client, method, path, query, protocol, status, length, host, referer, agent,
              worker, duration_ms, route, request_id

CN is the common name in the client's certificate. Kore writes it and the fields as they are; here quotes, backslashes,
controls and whatever isn't ASCII are escaped, and in the name, which stands between no quotes, spaces too.
"""

from __future__ import annotations

import json
import re
from time import localtime, strftime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gkore.protocol.fields import Fields
    from gkore.protocol.line import RequestLine

KEPT_MAX = 4096
"""Pieces of one kind that are kept until the next second."""

_odd = re.compile(rb"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


def escape(value: bytes) -> bytes:
    """``value`` fit to stand between quotes, as Apache writes it."""
    return _odd.sub(lambda found: b"\\x%02x" % found[0][0], value)


class Lines:
    """Lines in Kore's or the combined format."""

    __slots__ = ("_query", "_stamp", "counts", "heads")

    def __init__(self, query: bool) -> None:
        self._query = query
        self._stamp = b""
        self.heads: dict[str, bytes] = {}
        self.counts: dict[tuple[int, int], bytes] = {}

    def tick(self, now: float) -> None:
        """It is ``now`` seconds since 1970."""
        self._stamp = strftime("[%d/%b/%Y:%H:%M:%S %z]", localtime(now)).encode()
        self.heads.clear()
        if len(self.counts) > KEPT_MAX:
            self.counts.clear()

    def head(self, who: str) -> bytes:
        client, _, name = who.partition(" ")
        columns = (escape(client.encode()) or b"-", escape(name.encode()).replace(b" ", rb"\x20") or b"-", self._stamp)
        head = b'%b - %b %b "' % columns
        if len(self.heads) < KEPT_MAX:
            self.heads[who] = head
        return head

    def request(self, line: RequestLine) -> bytes:
        target = line.target if self._query else line.path.encode()
        line.logged = b"%b %b HTTP/1.%d" % (line.verb, escape(target), line.minor)
        return line.logged

    def count(self, counts: tuple[int, int]) -> bytes:
        piece = self.counts[counts] = b'" %d %d ' % counts
        return piece

    def tail(self, fields: Fields) -> bytes:
        referer, agent = fields.get(b"referer"), fields.get(b"user-agent")
        fields.logged = b'"%b" "%b"\n' % (escape(referer or b"-"), escape(agent or b"-"))
        return fields.logged


class JsonLines:
    """One JSON object a line."""

    __slots__ = ("_stamp", "_worker", "counts", "heads", "routes", "spans")

    def __init__(self, worker: int) -> None:
        self._worker = worker
        self._stamp = ""
        self.heads: dict[str, bytes] = {}
        self.counts: dict[tuple[int, int], bytes] = {}
        self.spans: dict[int, bytes] = {}
        self.routes: dict[str, bytes] = {}

    def tick(self, now: float) -> None:
        """It is ``now`` seconds since 1970."""
        self._stamp = strftime("%Y-%m-%dT%H:%M:%S%z", localtime(now))
        self.heads.clear()
        if len(self.counts) > KEPT_MAX:
            self.counts.clear()

    def head(self, who: str) -> bytes:
        client, _, name = who.partition(" ")
        values = {"time": self._stamp, "client": client} | ({"name": name} if name else {})
        head = json.dumps(values, separators=(",", ":"))[:-1].encode() + b","
        if len(self.heads) < KEPT_MAX:
            self.heads[who] = head
        return head

    def request(self, line: RequestLine) -> bytes:
        path, query = line.path.encode(), line.query
        line.logged = members(method=line.verb, path=path, query=query, protocol=b"HTTP/1.%d" % line.minor)
        return line.logged

    def count(self, counts: tuple[int, int]) -> bytes:
        piece = self.counts[counts] = b',"status":%d,"length":%d,' % counts
        return piece

    def tail(self, fields: Fields) -> bytes:
        texts = members(
            host=fields.host or b"", referer=fields.get(b"referer") or b"", agent=fields.get(b"user-agent") or b""
        )
        fields.logged = b'%b,"worker":%d,' % (texts, self._worker)
        return fields.logged

    def span(self, span: int) -> bytes:
        piece = b'"duration_ms":%.3f,' % (span / 1000)
        if len(self.spans) < KEPT_MAX:
            self.spans[span] = piece
        return piece

    def route(self, route: str) -> bytes:
        piece = members(route=route.encode()) + b',"request_id":"'
        if len(self.routes) < KEPT_MAX:
            self.routes[route] = piece
        return piece


def name_client(address: str, certified: str) -> str:
    """Who a line is about: an address ("" for a UNIX socket), and the common name of a certificate ("" without)."""
    return f"{address} {certified}" if certified else address


def members(**values: bytes) -> bytes:
    """``"name":"value"`` for each, without braces. Octets that aren't UTF-8 are shown as U+FFFD."""
    texts = {name: value.decode("utf-8", "replace") for name, value in values.items()}
    return json.dumps(texts, separators=(",", ":"))[1:-1].encode()
