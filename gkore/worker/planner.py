"""From what a site declares to what its requests meet: one Plan a route, one FileMap a filemap, made at boot.

Whatever counts or holds something open is made once a worker, however many servers share the domain.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from gkore.conf.site import Asset, Domain, Filemap, Hosted, Route, Site
from gkore.errors import StartError
from gkore.protocol.forwarded import Proxies
from gkore.protocol.journal import Journal
from gkore.worker import authentication
from gkore.worker.accesslog import AccessLog, access_log
from gkore.worker.body import Storage
from gkore.worker.dispatch import logged
from gkore.worker.filemap import FileMap, StaticPath
from gkore.worker.files import Files
from gkore.worker.limits import TokenBuckets
from gkore.worker.observation import Observation
from gkore.worker.openrequest import OpenFilteredRequest, OpenLoggedRequest, OpenRequest
from gkore.worker.plan import Gate, Plan, prerequest
from gkore.worker.request import Request
from gkore.worker.wsgi import host

if TYPE_CHECKING:
    from collections.abc import Iterable


def introduce(request: Request) -> bool:
    """Make ``connection.addr`` the client's own, where proxies send the requests of many over one connection."""
    request.connection.client = request.client
    return True


class Planner:
    """The plans of one worker."""

    __slots__ = (
        "_journal",
        "_made",
        "_settings",
        "_worker",
        "files",
        "logs",
        "observation",
        "prerequests",
        "proxies",
        "storage",
    )

    def __init__(self, site: Site, settings: Any, worker: int, journal: Journal | None = None) -> None:
        """StartError when a directory or file of the site can't be used."""
        self._settings = settings
        self._worker = worker
        self._journal = journal
        self._made: dict[int, Any] = {}
        self.files = Files()
        self.observation = Observation()
        self.logs: dict[str, AccessLog] = {}
        self.prerequests: tuple[Gate, ...] = tuple(map(prerequest, site.prerequests))
        self.proxies = Proxies(settings.trusted_proxies) if settings.trusted_proxies else None
        self.storage = Storage(settings.http_body_disk_offload, settings.http_body_disk_path)
        self.storage.prepare()

    def request(self, domains: Iterable[Domain]) -> type[Request]:
        """The kind of requests that a server with these domains makes."""
        declared = list(domains)
        if any(self._compressed(domain, route) for domain in declared for route in (None, *domain.routes)):
            return OpenFilteredRequest
        return OpenLoggedRequest if any(domain.accesslog for domain in declared) else OpenRequest

    def bare(self, domain: Domain) -> Plan | None:
        """The plan of answers that no route gives: redirects, 404."""
        log = self._log(domain)
        return Plan(log=log) if log is not None else None

    def route(self, domain: Domain, route: Route) -> Plan | None:
        """The plan of a route; None when it needs none."""
        if id(route) not in self._made:
            self._made[id(route)] = self._plan(domain, route)
        return self._made[id(route)]  # type: ignore[no-any-return]

    def _plan(self, domain: Domain, route: Route) -> Plan | None:
        gates: list[Gate] = [introduce] if self.proxies is not None else []
        if route.options.get("rate"):
            gates.append(TokenBuckets(route.options["rate"]).gate)
        if route.authentication is not None:
            gates.append(authentication.gate(route.authentication))
        if not isinstance(route.handler, Asset):
            gates += self.prerequests
        log, compressed = self._log(domain), self._compressed(domain, route)
        limited = any(route.options.get(name) is not None for name in ("body_max", "timeout", "concurrency"))
        hooked = route.on_headers or route.on_body_chunk or route.on_free
        if not (gates or log or compressed or limited or hooked or self.storage.threshold or self.proxies):
            return None
        plan = Plan(gates, log, compressed)
        plan.limit(route)
        if log is not None and plan.bare and not self.storage.threshold:
            plan.only_log = logged(log)
        return plan

    def handler(self, domain: Domain, route: Route) -> Any:
        """What runs for a route, with what observes it."""
        return self.observation.around(self._handler(route), domain, route)

    def _handler(self, route: Route) -> Any:
        handler = route.handler
        if isinstance(handler, Hosted):
            return host(handler.application)
        if not isinstance(handler, Asset):
            return handler
        directory = handler.directory if os.path.isdir(handler.directory) else os.path.basename(handler.directory)
        return StaticPath(self._filemap("/", directory), handler.file).serve

    def filemap(self, domain: Domain, declared: Filemap) -> tuple[FileMap, Plan | None]:
        """A filemap and its plan. StartError when the directory can't be opened."""
        key = id(declared)
        if key not in self._made:
            gates = [authentication.gate(declared.authentication)] if declared.authentication is not None else []
            log, compressed = self._log(domain), self._compressed(domain, None)
            plan = Plan(gates, log, compressed) if gates or log or compressed else None
            if plan is not None and log is not None and plan.bare:
                plan.only_log = logged(log)
            self._made[key] = (self._filemap(declared.url, declared.directory), plan)
        return self._made[key]  # type: ignore[no-any-return]

    def _filemap(self, url: str, directory: str) -> FileMap:
        try:
            return FileMap(url, directory, self.files, self._settings)
        except OSError as failure:
            raise StartError(f"filemap {url}: workers can't open {directory}: {failure.strerror}") from None

    def _log(self, domain: Domain) -> AccessLog | None:
        path = domain.accesslog
        if not path:
            return None
        if path not in self.logs:
            try:
                self.logs[path] = access_log(path, self._settings.accesslog_format, self._worker, self._journal)
            except OSError as failure:
                raise StartError(f"accesslog {path} can't be opened: {failure.strerror}") from None
        return self.logs[path]

    def _compressed(self, domain: Domain, route: Route | None) -> bool:
        own = route.options.get("http_compress") if route is not None else None
        if own is None:
            own = domain.options.get("http_compress", self._settings.http_compress)
        return bool(own)
