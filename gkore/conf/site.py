"""The site as plain data: what a conf or a script declares, before any of it runs.

    Site ── servers ── binds
         ├─ domains ── routes ── params, authentication, hooks
         │          ├─ redirects        (``redirect`` and ``return``, tried before routes)
         │          └─ filemaps
         ├─ validators, authentications
         └─ privseps

Nothing in here opens, resolves or compiles: the reader and the script API fill it, ``worker.routing`` compiles it.
Names of handlers are kept beside the callables that they resolve to, for messages and for ``gkore routes``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

# Kore's method numbers are bits (http.h), so that a set of methods is one int.
METHODS: dict[str, int] = {
    "get": 1,
    "post": 2,
    "put": 4,
    "delete": 16,
    "head": 32,
    "options": 64,
    "patch": 128,
}
ALL_METHODS = sum(METHODS.values())

Function = Callable[..., Any]


@dataclass(slots=True, frozen=True)
class Place:
    """Where something was declared: line and column count from 1, 0 means "not in a file"."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


NOWHERE = Place("(built in)")


@dataclass(slots=True)
class Bind:
    """One address of a server: host and port, or the path of a UNIX socket (leading ``@`` is abstract)."""

    host: str = ""
    port: str = ""
    path: str = ""
    callback: Function | None = None
    place: Place = NOWHERE

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(slots=True)
class Server:
    """A group of addresses that serve the same domains; ``tls`` None means: when a domain has certificates."""

    name: str
    binds: list[Bind] = field(default_factory=list)
    tls: bool | None = None
    proxy_protocol: bool = False
    place: Place = NOWHERE


@dataclass(slots=True)
class Validator:
    """A named check of one value: ``pattern`` (searched, not anchored, as in Kore) or a function."""

    name: str
    pattern: re.Pattern[str] | None = None
    function: Function | None = None
    function_name: str = ""
    place: Place = NOWHERE


@dataclass(slots=True)
class Authentication:
    """Who may run a route: where the credential is, and the function that looks at it."""

    name: str
    kind: Literal["cookie", "header", "request"] = "cookie"
    value: str = ""
    validator: Validator | None = None
    uri: str = ""
    place: Place = NOWHERE


@dataclass(slots=True)
class Param:
    """One declared parameter: for which methods (bits), from the query string or from the body."""

    name: str
    validator: Validator
    methods: int
    query: bool
    place: Place = NOWHERE


@dataclass(slots=True)
class Route:
    """One path of a domain; ``pattern`` is None when the path is compared, not searched."""

    path: str
    pattern: re.Pattern[str] | None = None
    handler: Function | None = None
    handler_name: str = ""
    methods: int = ALL_METHODS
    params: list[Param] = field(default_factory=list)
    authentication: Authentication | None = None
    on_headers: Function | None = None
    on_body_chunk: Function | None = None
    on_free: Function | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """Per-route limits and the like (``body_max``, ``timeout``, ``concurrency``, ``rate``, ``compress``)."""
    place: Place = NOWHERE


class Rate(NamedTuple):
    """``rate 100/m``: 100 in 60 seconds, and as many at once when nothing came before."""

    most: int
    seconds: int


@dataclass(slots=True, frozen=True)
class Asset:
    """A file below ``assets`` that ``asset_serve_NAME_EXT`` serves (Kore 3.2)."""

    directory: str
    file: str

    def __call__(self, *_: object) -> None:
        """It stands where a function stands, but the worker serves the file itself."""
        raise RuntimeError(f"{self.file} is served by the server, not called")


@dataclass(slots=True)
class Hosted:
    """A WSGI application that answers for a route."""

    application: Function

    def __call__(self, *_: object) -> None:
        """It stands where a function stands, but the worker puts its WSGI adapter there."""
        raise RuntimeError("a WSGI application is hosted by the server, not called")


@dataclass(slots=True)
class Redirect:
    """``redirect`` (target set) or ``return`` (target None): answered before any route is tried."""

    pattern: re.Pattern[str]
    status: int
    target: str | None = None
    place: Place = NOWHERE


@dataclass(slots=True)
class Filemap:
    """Static files: everything below ``url`` comes from ``directory``."""

    url: str
    directory: str
    authentication: Authentication | None = None
    position: int = 0
    """How many routes of the domain were declared before it: they are matched in that order."""
    place: Place = NOWHERE


@dataclass(slots=True)
class Domain:
    """A virtual host: a name or a shell pattern, the servers it is attached to, and what it answers."""

    name: str
    servers: list[str] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    redirects: list[Redirect] = field(default_factory=list)
    filemaps: list[Filemap] = field(default_factory=list)
    certfile: str = ""
    certkey: str = ""
    acme: bool = False
    acme_place: Place = NOWHERE
    client_verify: str = ""
    client_crl: str = ""
    client_verify_depth: int = 1
    context: Any = None
    """The ssl.SSLContext made of these (``conf.certificates``)."""
    accesslog: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    place: Place = NOWHERE


@dataclass(slots=True)
class Privsep:
    """What one kind of process (worker, keymgr, acme) may keep: user, root directory, what to skip."""

    name: str
    runas: str = ""
    root: str = ""
    skip: set[str] = field(default_factory=set)
    place: Place = NOWHERE
    runas_place: Place = NOWHERE


@dataclass(slots=True)
class Site:
    """Everything declared, in the order of declaration (which is the order of matching)."""

    servers: dict[str, Server] = field(default_factory=dict)
    domains: list[Domain] = field(default_factory=list)
    validators: dict[str, Validator] = field(default_factory=dict)
    authentications: dict[str, Authentication] = field(default_factory=dict)
    privseps: dict[str, Privsep] = field(default_factory=dict)
    prerequests: list[Function] = field(default_factory=list)
    """Run before every handler, in the order of registration."""

    def domains_of(self, server: str) -> list[Domain]:
        """The domains attached to ``server``, in the order of declaration."""
        return [domain for domain in self.domains if server in domain.servers]

    def privsep(self, name: str) -> Privsep:
        """The privsep block of a process, made empty when nobody declared it."""
        return self.privseps.setdefault(name, Privsep(name))
