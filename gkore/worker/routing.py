"""The site, compiled at boot: from a Host field and a request line to the route that answers.

Kore's order holds: redirects and returns first, then routes as they were declared, exact or pattern alike; a later
route of the same path may take the methods that an earlier one does not (Kore 4.2). What can be decided at boot is: for
every exact path the winning route of each method is known before the first request comes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from typing import TYPE_CHECKING, Any, Final

from gkore.compiled import mypyc_attr
from gkore.conf.site import Domain, Function, Param, Redirect, Route
from gkore.errors import ProtocolError
from gkore.protocol.head import Head, Seen
from gkore.protocol.line import METHODS, RequestLine
from gkore.worker.dispatch import dispatch
from gkore.worker.filemap import FileMap
from gkore.worker.parameters import Rules, rules_of
from gkore.worker.plan import Plan
from gkore.worker.planner import Planner

if TYPE_CHECKING:
    from gkore.worker.request import Request

GROUPS_MAX: Final = 15
"""Capture groups handed to a handler, as in Kore."""
KNOWN_MAX: Final = 1024
HOSTS_MAX: Final = 1024
SEEN_MAX: Final = 1024
SEEN_BYTES_MAX: Final = 2048
"""At most 1024 requests of 2 KiB are remembered: 2 MiB."""

_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]+)(?::[0-9]*)?")


class Action:
    """What answers a request: a route's handler, a filemap, a redirect, or a bare status (then ``handler`` is None).

    ``plain`` says that nothing stands before or after the handler: no authentication, no hooks, no limits, no log.
    """

    __slots__ = ("domain", "groups", "handler", "headers", "name", "path", "plain", "plan", "rules", "serve", "status")

    def __init__(self, domain: Host, plan: Plan | None, handler: Function | None = None, name: str = "") -> None:
        self.domain = domain
        self.plan = plan
        self.handler: Any = handler
        self.name = name
        self.path = ""
        """Of the route, as declared."""
        self.groups: tuple[str, ...] = ()
        self.status = 0
        self.headers: tuple[tuple[str, str], ...] = ()
        self.rules = NO_RULES
        self.plain = plan is None and handler is not None
        self.serve = dispatch if plan is None or plan.only_log is None or handler is None else plan.only_log
        """Answers a request that isn't plain; never raises when there is a plan."""

    def through(self, serve: Callable[[Request], None]) -> Action:
        """The same, but ``serve`` answers."""
        other = Action(self.domain, self.plan, self.handler, self.name)
        other.path, other.groups, other.rules = self.path, self.groups, self.rules
        other.status, other.headers = self.status, self.headers
        other.plain = False
        other.serve = serve
        return other


class Entry:
    """A route or filemap in its place: matched in the order of declaration."""

    __slots__ = ("handler", "maps", "methods", "name", "path", "pattern", "plan", "rules")

    def __init__(self, path: str, methods: int, plan: Plan | None) -> None:
        self.path = path
        self.methods = methods
        self.plan = plan
        self.pattern: re.Pattern[str] | None = None
        self.handler: Function | None = None
        self.name = ""
        self.rules: RouteRules = NO_RULES
        self.maps: list[tuple[FileMap, Plan | None]] = []
        """All filemaps of the domain, the longest url first: for one request that wins, as in Kore."""

    def action(self, host: Host, path: str) -> Action | None:
        """What answers ``path``; None when it isn't this entry's."""
        if self.maps:
            if not path.startswith(self.path):
                return None
            found, plan = next(one for one in self.maps if path.startswith(one[0].url))
            action = Action(host, plan, found.handler(path), f"filemap {found.url}")
            action.path = found.url
            return action
        groups = self._groups(path)
        if groups is None:
            return None
        action = Action(host, self.plan, self.handler, self.name)
        action.path, action.groups, action.rules = self.path, groups, self.rules
        action.plain = action.plain and not groups
        return action

    def _groups(self, path: str) -> tuple[str, ...] | None:
        """The capture groups, up to the first that took no part; None when the path doesn't match."""
        if self.pattern is None:
            return () if self.path == path else None
        match = self.pattern.search(path)
        if match is None:
            return None
        groups = match.groups()[:GROUPS_MAX]
        return groups[: groups.index(None)] if None in groups else groups


class RouteRules:
    """The validators of a route's parameters, by method and source, once they were asked for."""

    __slots__ = ("_declared", "_known")

    def __init__(self, declared: list[Param]) -> None:
        self._declared = declared
        self._known: dict[tuple[int, bool], Rules] = {}

    def find(self, method: int, query: bool) -> Rules:
        found = self._known.get((method, query))
        if found is None:
            found = self._known[method, query] = rules_of(self._declared, method, query)
        return found


NO_RULES = RouteRules([])


@mypyc_attr(allow_interpreted_subclasses=True)
class Host:
    """One domain, compiled."""

    __slots__ = ("_exact", "_others", "bare", "declared", "known", "name")

    def __init__(self, declared: Domain, planner: Planner) -> None:
        self.declared = declared
        self.name = declared.name
        self.known: dict[bytes, Action] = {}
        self.bare = planner.bare(declared)
        entries = compiled(declared, planner)
        paths = {entry.path for entry in entries if entry.pattern is None and not entry.maps}
        self._exact = {path: self._decide(path, entries) for path in paths}
        self._others = [entry for entry in entries if entry.pattern is not None or entry.maps]

    def find(self, line: RequestLine) -> Action:
        """The action for a request line; ``known`` holds those of lines that were asked for before."""
        action = self.known.get(line.bare)
        return action if action is not None else self._find(line)

    def _find(self, line: RequestLine) -> Action:
        action = self._redirected(line) or self._routed(line)
        if action.handler is not None and not action.groups:
            if len(self.known) >= KNOWN_MAX:
                self.known.clear()
            self.known[line.bare] = action
        return action

    def _routed(self, line: RequestLine) -> Action:
        if line.path == "*":
            return self._status(200, (("allow", ", ".join(_spell(sum(METHODS.values())))),))
        found = self._exact.get(line.path)
        if found is None:
            found = self._decide(line.path, self._others)
        action = found.get(line.method)
        if action is not None:
            return action
        if not found:
            return self._status(404)
        return self._status(405, (("allow", ", ".join(_spell(sum(found)))),))

    def _status(self, status: int, headers: tuple[tuple[str, str], ...] = ()) -> Action:
        action = Action(self, self.bare)
        action.status, action.headers = status, headers
        return action

    def _decide(self, path: str, entries: Iterable[Entry]) -> dict[int, Action]:
        """For every method the first of ``entries`` that matches ``path`` and takes it."""
        found: dict[int, Action] = {}
        for entry in entries:
            action = entry.action(self, path)
            if action is None:
                continue
            for method in METHODS.values():
                if entry.methods & method:
                    found.setdefault(method, action)
        return found

    def _redirected(self, line: RequestLine) -> Action | None:
        for redirect in self.declared.redirects:
            match = redirect.pattern.search(line.path)
            if match is not None:
                if redirect.target is None:
                    return self._status(redirect.status)
                return self._status(redirect.status, (("location", _fill(redirect, match, line.query)),))
        return None


def compiled(declared: Domain, planner: Planner) -> list[Entry]:
    """Routes and filemaps of a domain, in the order of declaration."""
    entries: list[Entry] = []
    maps = [planner.filemap(declared, filemap) for filemap in declared.filemaps]
    maps.sort(key=lambda one: len(one[0].url), reverse=True)
    mapped = sorted(declared.filemaps, key=lambda filemap: filemap.position)
    for number in range(len(declared.routes) + 1):
        for filemap in mapped:
            if min(filemap.position, len(declared.routes)) == number:
                entry = Entry(filemap.url, METHODS[b"GET"] | METHODS[b"HEAD"], None)
                entry.maps = maps
                entries.append(entry)
        if number < len(declared.routes) and declared.routes[number].handler is not None:
            entries.append(_routed(declared, declared.routes[number], planner))
    return entries


def _routed(declared: Domain, route: Route, planner: Planner) -> Entry:
    entry = Entry(route.path, route.methods, planner.route(declared, route))
    entry.pattern, entry.handler, entry.name = route.pattern, planner.handler(declared, route), route.handler_name
    entry.rules = RouteRules(route.params)
    return entry


def _fill(redirect: Redirect, match: re.Match[str], query: bytes) -> str:
    """The location of a redirect: ``$1`` to ``$14`` are captures, ``$qs`` is the query string."""

    def value(found: re.Match[str]) -> str:
        if found.group(1) == "qs":
            return query.decode("ascii", "replace")
        number = int(found.group(1))
        return (match.group(number) or "") if number <= match.re.groups else ""

    return re.sub(r"\$(qs|[1-9][0-4]?)", value, redirect.target or "")


def _spell(methods: int) -> list[str]:
    return [verb.decode() for verb, bit in METHODS.items() if methods & bit]


@mypyc_attr(allow_interpreted_subclasses=True)
class Hosts:
    """The domains of one server, asked in the order of declaration; answers are remembered by the Host field."""

    __slots__ = ("_compiled", "known", "seen")

    def __init__(self, domains: Iterable[Domain], planner: Planner) -> None:
        self._compiled = [(re.compile(translate(domain.name.lower())), Host(domain, planner)) for domain in domains]
        self.known: dict[bytes | None, Host] = {}
        self.seen: dict[bytes, Seen] = {}
        """What the bytes of a whole request mean here, where that is always the same."""

    def remember(self, request: Head) -> None:
        """The same bytes will be the same request with the same action."""
        if len(request.chunk) <= SEEN_BYTES_MAX:
            if len(self.seen) >= SEEN_MAX:
                self.seen.clear()
            self.seen[request.chunk] = (request.line, request.fields, request.action, request.keep_alive)

    def all(self) -> list[Host]:
        """Every domain, in the order of declaration."""
        return [host for _, host in self._compiled]

    def divert(self, through: Callable[[Host], Host]) -> None:
        """Ask each domain ``through`` another object from now on, and forget what was found before."""
        self._compiled = [(pattern, through(host)) for pattern, host in self._compiled]
        self.forget()

    def forget(self) -> None:
        """Find everything anew."""
        self.known.clear()
        self.seen.clear()

    def find(self, field: bytes | None) -> Host:
        """The domain for a Host field; ``known`` holds those that were asked for before.

        ProtocolError: 400 when it is no host, 404 when nobody serves it.
        """
        host = self.known.get(field)
        return host if host is not None else self._find(field)

    def _find(self, field: bytes | None) -> Host:
        name = field or b""
        # RFC 9110 4.2.1: an http URI has a host; only a 1.0 request may name none.
        if field is not None and not _HOST.fullmatch(name):
            raise ProtocolError(400, "Host is not a host name")
        if len(name) > 253 + 6:
            raise ProtocolError(400, "Host is longer than a name can be")
        bare = name if name.endswith(b"]") else name.rpartition(b":")[0] or name
        text = bare.decode("ascii").lower()
        for pattern, host in self._compiled:
            if pattern.match(text):
                if len(self.known) >= HOSTS_MAX:
                    self.known.clear()
                self.known[field] = host
                return host
        raise ProtocolError(404, "no such domain")
