"""Declaring parts of a site: what the conf and ``kore.server``, ``kore.domain``, ``kore.route`` have in common.

What can't be is a RuntimeError with Kore 4's text; the reader makes a Mistake with a place of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from gkore.conf.diagnostics import Wrong
from gkore.conf.kinds import url_pattern
from gkore.conf.patterns import compile_pattern
from gkore.conf.site import (
    METHODS,
    NOWHERE,
    Bind,
    Domain,
    Function,
    Param,
    Place,
    Privsep,
    Route,
    Server,
    Site,
    Validator,
)

IMPLICIT = "default"
PROCESSES = ("worker", "keymgr", "acme")


def add_server(site: Site, name: str, tls: bool | None, place: Place = NOWHERE) -> Server:
    """A new server. RuntimeError when the name is taken."""
    if name in site.servers:
        raise RuntimeError(f"server '{name}' already exist")
    server = site.servers[name] = Server(name, tls=tls, place=place)
    return server


def implicit_server(site: Site, place: Place = NOWHERE) -> Server:
    """The server of Kore 3's top-level ``bind``: speaks TLS when a domain has certificates."""
    return site.servers.get(IMPLICIT) or add_server(site, IMPLICIT, None, place)


def add_bind(server: Server, host: str, port: str, path: str, place: Place = NOWHERE) -> Bind:
    """A new address of a server."""
    bind = Bind(host, port, path, place=place)
    server.binds.append(bind)
    return bind


def attach(site: Site, domain: Domain, name: str) -> None:
    """Attach a domain to a server. RuntimeError when there is no such server or it has such a domain."""
    if name not in site.servers:
        raise RuntimeError(f"server '{name}' does not exist")
    if name in domain.servers:
        raise RuntimeError(f"domain '{domain.name}' already attached to server")
    if any(other.name.lower() == domain.name.lower() for other in site.domains_of(name) if other is not domain):
        raise RuntimeError(f"failed to attach '{domain.name}' to '{name}'")
    domain.servers.append(name)


def home(site: Site) -> str:
    """The server of a domain that names none: the implicit one, or the only one, or "" """
    if IMPLICIT in site.servers:
        return IMPLICIT
    return next(iter(site.servers)) if len(site.servers) == 1 else ""


def make_route(path: str, captures: bool = True, place: Place = NOWHERE) -> Route:
    """A route for a path (leading ``/``) or a regular expression. Wrong when that does not compile."""
    pattern = url_pattern(path) if captures or path.startswith("/") else compile_pattern(path, captures)
    return Route(path, None if isinstance(pattern, str) else pattern, place=place)


def overlapping(domain: Domain, route: Route) -> Route | None:
    """A route of the domain that answers the same path and one of the same methods: only the first could ever run."""
    for other in domain.routes:
        if other is route:
            return None
        if other.path == route.path and other.methods & route.methods:
            return other
    return None


def install(domain: Domain, route: Route) -> None:
    """Append a finished route. RuntimeError for one that could never run (Kore 4.2)."""
    if overlapping(domain, route):
        raise RuntimeError(f"duplicate route for '{route.path}'")
    domain.routes.append(route)


def keep(site: Site, route: Route, name: str) -> None:
    """Install a route of ``@kore.route`` in the domain of that name, or without a name in the only one (Kore 4.2)."""
    if not site.domains:
        raise RuntimeError("no domains configured, please configure one")
    if not name and len(site.domains) > 1:
        raise RuntimeError("ambiguous domain on route, please specify one")
    found = [domain for domain in site.domains if domain.name == name] if name else site.domains
    if not found:
        raise RuntimeError(f"domain '{name}' does not exist")
    for domain in found:  # one name may stand on several servers, where Kore keeps the last only
        install(domain, route)


def method_bits(names: Iterable[str]) -> int:
    """The methods of these names (any case) as one set of bits. RuntimeError for an unknown one."""
    bits = 0
    for name in names:
        bit = METHODS.get(name.lower()) if isinstance(name, str) else None
        if bit is None:
            raise RuntimeError(f"unknown HTTP method: {name}")
        bits |= bit
    return bits


def make_validator(name: str, check: str | Function, place: Place = NOWHERE) -> Validator:
    """An inline validator: a regular expression or a function. RuntimeError when it is neither."""
    if isinstance(check, str):
        try:
            return Validator(name, pattern=compile_pattern(check), place=place)
        except Wrong as why:
            raise RuntimeError(f"Invalid regex ({check}): {why.message}") from None
    if callable(check):
        return Validator(name, function=check, function_name=getattr(check, "__qualname__", repr(check)), place=place)
    raise RuntimeError(f"validator '{name}' must be regex or function")


def add_param(route: Route, validator: Validator, name: str, methods: int, query: bool) -> None:
    """Declare one parameter of a route; of several for one name and method the first counts (Kore)."""
    route.params.append(Param(name, validator, methods, query, validator.place))


def find_privsep(site: Site, name: str) -> Privsep:
    """The privsep block of a process. RuntimeError when there is no such process."""
    if name not in PROCESSES:
        raise RuntimeError(f"unknown privsep process '{name}'")
    return site.privsep(name)
