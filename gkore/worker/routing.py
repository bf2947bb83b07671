"""The site, compiled at boot: from a Host field and a request line to the route that answers.

Kore's order holds: redirects and returns first, then routes as they were declared, exact or pattern alike; a later
route of the same path may take the methods that an earlier one does not (Kore 4.2). What can be decided at boot is: for
every exact path the winning route of each method is known before the first request comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from typing import Any

from gkore.conf.site import Domain, Redirect, Route
from gkore.errors import ProtocolError
from gkore.protocol.line import METHODS, RequestLine

GROUPS_MAX = 15
"""Capture groups handed to a handler, as in Kore."""
KNOWN_MAX = 1024
HOSTS_MAX = 1024

_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(?::[0-9]*)?")


class Action:
    """What answers a request: a route's handler, a redirect, or a bare status (then ``handler`` is None).

    ``plain`` says that nothing stands before the handler: no authentication, no hooks, no limits of its own.
    """

    __slots__ = ("domain", "groups", "handler", "headers", "name", "plain", "redirect", "route", "status")

    def __init__(
        self,
        domain: Host,
        route: Route | None = None,
        groups: tuple[str, ...] = (),
        status: int = 0,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.domain = domain
        self.route = route
        self.groups = groups
        self.handler: Any = route.handler if route is not None else None
        self.status = status
        self.headers = headers
        self.name = route.handler_name if route is not None else ""
        self.plain = (
            route is not None
            and route.authentication is None
            and route.on_headers is None
            and route.on_body_chunk is None
            and route.on_free is None
            and not route.options
            and not groups
        )


class Host:
    """One domain, compiled."""

    __slots__ = ("_exact", "_patterns", "declared", "known", "name")

    def __init__(self, declared: Domain) -> None:
        self.declared = declared
        self.name = declared.name
        self.known: dict[bytes, Action] = {}
        self._patterns = [route for route in declared.routes if route.handler is not None]
        paths = {route.path for route in self._patterns if route.pattern is None}
        self._exact = {path: self._decide(path, self._patterns) for path in paths}
        self._patterns = [route for route in self._patterns if route.pattern is not None]

    def find(self, line: RequestLine) -> Action:
        """The action for a request line; ``known`` holds those of lines that were asked for before."""
        action = self.known.get(line.text)
        return action if action is not None else self._find(line)

    def _find(self, line: RequestLine) -> Action:
        action = self._redirected(line) or self._routed(line)
        if not line.query and action.handler is not None and not action.groups:
            if len(self.known) >= KNOWN_MAX:
                self.known.clear()
            self.known[line.text] = action
        return action

    def _routed(self, line: RequestLine) -> Action:
        if line.target == b"*":
            return Action(self, status=200, headers=(("allow", ", ".join(_spell(sum(METHODS.values())))),))
        found = self._exact.get(line.path)
        if found is None:
            found = self._decide(line.path, self._patterns)
        action = found.get(line.method)
        if action is not None:
            return action
        if not found:
            return Action(self, status=404)
        return Action(self, status=405, headers=(("allow", ", ".join(_spell(sum(found)))),))

    def _decide(self, path: str, routes: Iterable[Route]) -> dict[int, Action]:
        """For every method the first of ``routes`` that matches ``path`` and takes it."""
        found: dict[int, Action] = {}
        for route in routes:
            groups = _match(route, path)
            if groups is None:
                continue
            action = Action(self, route, groups)
            for method in METHODS.values():
                if route.methods & method:
                    found.setdefault(method, action)
        return found

    def _redirected(self, line: RequestLine) -> Action | None:
        for redirect in self.declared.redirects:
            match = redirect.pattern.search(line.path)
            if match is not None:
                if redirect.target is None:
                    return Action(self, status=redirect.status)
                target = _fill(redirect, match, line.query)
                return Action(self, status=redirect.status, headers=(("location", target),))
        return None


def _match(route: Route, path: str) -> tuple[str, ...] | None:
    """The capture groups with which ``route`` matches, up to the first that took no part; None when it doesn't."""
    if route.pattern is None:
        return () if route.path == path else None
    match = route.pattern.search(path)
    if match is None:
        return None
    groups = match.groups()[:GROUPS_MAX]
    return groups[: groups.index(None)] if None in groups else groups


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


class Hosts:
    """The domains of one server, asked in the order of declaration; answers are remembered by the Host field."""

    __slots__ = ("_compiled", "known")

    def __init__(self, domains: Iterable[Domain]) -> None:
        self._compiled = [(re.compile(translate(domain.name.lower())), Host(domain)) for domain in domains]
        self.known: dict[bytes | None, Host] = {}

    def find(self, field: bytes | None) -> Host:
        """The domain for a Host field; ``known`` holds those that were asked for before.

        ProtocolError: 400 when it is no host, 404 when nobody serves it.
        """
        host = self.known.get(field)
        return host if host is not None else self._find(field)

    def _find(self, field: bytes | None) -> Host:
        name = field or b""
        if not _HOST.fullmatch(name):
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
