"""What all connections of one server share in one worker: settings read once, compiled routes, pools, the clock."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

from gkore.errors import ProtocolError
from gkore.protocol.forwarded import Client, find_client
from gkore.protocol.request import Limits, RequestParser
from gkore.protocol.response import ResponseHeads, error_page, header_line
from gkore.worker.bridge import Pool
from gkore.worker.dispatch import admit
from gkore.worker.planner import Planner
from gkore.worker.ready import Ready
from gkore.worker.request import Request
from gkore.worker.routing import Hosts

if TYPE_CHECKING:
    from gkore.conf.site import Server, Site
    from gkore.worker.connection import Connection


FORWARDED: Final = (b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")
CLIENTS_MAX: Final = 1024


class Clock:
    """Seconds of the monotonic clock, as of the last tick: reading it is one attribute, and deadlines need no more."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0


class Fleet:
    """Everything that the services of one worker have in common: its connections, its tasks, the time."""

    __slots__ = ("clock", "connections", "draining", "ids", "pool", "ready", "requests")

    def __init__(self, request_limit: int) -> None:
        self.clock = Clock()
        self.connections: set[Connection] = set()
        self.pool = Pool(request_limit)
        self.ready = Ready(self.pool)
        self.draining = False
        self.requests = 0
        self.ids: Iterator[str] = map(f"{token_hex(6)}-%x".__mod__, count(1))
        """Names for requests: unlike any other worker's, and cheaper than a random number each."""


class Service:
    """One server as a worker sees it."""

    def __init__(
        self, site: Site, server: Server, settings: Any, fleet: Fleet, planner: Planner, tls: bool = False
    ) -> None:
        self.server = server
        self.fleet = fleet
        self.clock = fleet.clock
        self.connections = fleet.connections
        self.scheme = "https" if tls else "http"
        domains = site.domains_of(server.name)
        self.hosts = Hosts(domains, planner)
        self.new_request = planner.request(domains)
        self.storage = planner.storage
        self.proxies = planner.proxies
        self.direct = planner.proxies is None and not any(domain.client_verify for domain in domains)
        """The other end of a connection is the client, and has no certificate."""
        self._clients: dict[tuple[str, ...], Client] = {}
        self.limits = Limits(settings.http_header_max, settings.http_headers_max, settings.http_body_max)
        self.heads = ResponseHeads(
            settings.http_server_version, settings.http_keepalive_time, settings.http_hsts_enable if tls else 0
        )
        self.keepalive_time: int = settings.http_keepalive_time
        self.header_timeout: int = settings.http_header_timeout
        self.body_timeout: int = settings.http_body_timeout
        self.write_timeout: int = settings.http_write_timeout
        self.params_max: int = settings.http_params_max
        self.cookies_max: int = settings.http_cookies_max
        self.pretty: bool = settings.http_pretty_error
        self.greeter: Any = None
        """A ``tls.Greeter``, when this server speaks TLS."""
        self.closing = False
        """Every connection closes after the response that it is waiting for."""
        self.parsers: list[RequestParser[Request]] = []
        self.ready = fleet.ready
        self.queue = fleet.ready.queue
        if not self.keepalive_time:
            self.drain()

    def new_parser(self) -> RequestParser[Request]:
        """A parser for a connection that becomes busy; idle connections give theirs back to ``parsers``."""
        return RequestParser(self.limits, self.new_request, admit)

    def trusts(self, peer: object) -> bool:
        """Whether the other end of a connection is a trusted proxy."""
        return self.proxies is not None and self.proxies.trust(peer[0] if isinstance(peer, tuple) else "")

    def find_client(self, request: Request) -> Client:
        """Who sent a request, as far as trusted proxies tell."""
        assert self.proxies is not None
        peer, fields = request.connection.peer, request.fields
        address = peer[0] if isinstance(peer, tuple) else ""
        said = tuple(b",".join(fields.all(name)).decode("latin-1") for name in FORWARDED)
        found = self._clients.get((address, *said))
        if found is None:
            standard, hops, scheme, host = said
            found = find_client(
                address, self.proxies, [standard] if standard else [], [hops] if hops else [], (scheme, host)
            )
            if len(self._clients) >= CLIENTS_MAX:
                self._clients.clear()
            self._clients[address, *said] = found
        return found

    def refusal(self, refusal: ProtocolError) -> bytes:
        """The whole response for a request that can't be served."""
        body = error_page(refusal.status) if self.pretty else b""
        fields = b"".join(header_line(name, value) for name, value in refusal.headers)
        return b"%b%bcontent-length: %d\r\n\r\n%b" % (self.heads.close[1][refusal.status], fields, len(body), body)

    def drain(self) -> None:
        """From now on every response says ``connection: close`` and means it."""
        self.heads.keep = self.heads.close
        self.closing = True
