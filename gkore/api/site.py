"""``kore.server``, ``kore.domain``, ``@kore.route`` and their like: the site, declared from Python.

They fill the current Application before the server starts, in Kore 4's words; the texts of errors are Kore's too. Where
Kore 4 changed a form (the server's name was positional, then a keyword), both are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from gkore import log
from gkore.conf import declarations
from gkore.conf.application import Promise, current
from gkore.conf.diagnostics import Wrong, nearest
from gkore.conf.directives import ROWS, SETTING_ROWS
from gkore.conf.loading import caller
from gkore.conf.patterns import compile_pattern
from gkore.conf.site import METHODS, Authentication, Filemap, Function, Place, Redirect, Route, Server
from gkore.conf.site import Domain as SiteDomain

F = TypeVar("F", bound=Callable[..., Any])

HOOKS = ("on_headers", "on_body_chunk", "on_free")
LIMITS = ("body_max", "timeout", "concurrency", "rate", "http_compress")
KEYWORDS = (*METHODS, *LIMITS, "methods", "qs", "auth", "hooks", "key", "domain")

_shared: list[Any] = [None]


def app(*value: Any) -> Any:
    """Keep any object for other modules, or without an argument give it back: None when there is none (Kore 4)."""
    if not value:
        return _shared[0]
    _shared[0] = value[0]
    return True


class Config:
    """``kore.config.workers = 4``: a setting, as a conf would set it (Kore 4).

    A wrong value is a ValueError, where Kore ends the process; an unknown name is an AttributeError, unless
    ``kore.config.config_strict`` is "no" (Kore passes over it); settings can be read, too.
    """

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        settings = current().settings
        if name not in SETTING_ROWS and not settings.config_strict:
            log.notice(f"ignoring unknown kore.config.{name} setting")
            return
        settings.assign(name, value, "kore.config")

    def __getattr__(self, name: str) -> Any:
        return getattr(current().settings, name)


config = Config()


def server(name: str = "default", *, ip: str = "", port: str | int = "", path: str = "", tls: bool = True) -> None:
    """Make a server with one address: ``ip`` and ``port``, or the ``path`` of a UNIX socket (Kore 4)."""
    site = current().site
    if not ip and not path:
        raise RuntimeError("missing ip or path keywords" if port or not tls else "missing keyword args")
    if ip and path:
        raise RuntimeError("ip/path are exclusive")
    if name in site.servers:
        raise RuntimeError(f"server '{name}' already exist")
    checked = check_port(port) if ip else ""
    declarations.add_bind(declarations.add_server(site, name, bool(tls), caller()), ip, checked, path, caller())


def check_port(port: object) -> str:
    """A port as text. RuntimeError when it is none; Kore takes only str."""
    number = str(port) if isinstance(port, (str, int)) and not isinstance(port, bool) else ""
    if not number.isdecimal() or len(number) > 5 or int(number) > 65535:
        raise RuntimeError("missing or invalid 'port' keyword")
    return number


def bind(ip: str, port: str | int, callback: str | Function = "") -> bool:
    """Listen on an address, for the implicit server (Kore 3, in kore_parent_configure). RuntimeError for a bad port."""
    implicit = declarations.implicit_server(current().site, caller())
    remember(implicit, declarations.add_bind(implicit, ip, check_port(port), "", caller()), callback)
    return True


listen = bind
"""Kore 3.2's examples call it so."""


def bind_unix(path: str, callback: str | Function = "") -> bool:
    """Listen on a UNIX socket, for the implicit server (Kore 3, in kore_parent_configure)."""
    implicit = declarations.implicit_server(current().site, caller())
    remember(implicit, declarations.add_bind(implicit, "", "", path, caller()), callback)
    return True


def remember(where: Server, address: Any, callback: str | Function) -> None:
    """Note the function that is shown each connection: by name or itself."""
    if callable(callback):
        address.callback = callback
    elif callback:
        address.callback = current().function(callback)


class Domain:
    """A virtual host; ``kore.domain("example.com", attach="default")`` makes one."""

    __slots__ = ("_domain",)

    def __init__(self, domain: SiteDomain) -> None:
        self._domain = domain

    def __repr__(self) -> str:
        return f"<kore.domain {self._domain.name}>"

    def route(self, path: str, handler: Function, **keywords: Any) -> None:
        """Add a route; keywords as those of ``kore.route``. RuntimeError for one that could never run."""
        declarations.install(self._domain, build(path, handler, keywords, caller()))

    def filemaps(self, maps: Mapping[str, str | tuple[str, Mapping[str, Any]]]) -> None:
        """Serve directories: ``{"/url/": "directory"}``, or ``("directory", auth)`` (Kore 4.3)."""
        for url, target in maps.items():
            folder, auth = target if isinstance(target, tuple) else (target, None)
            if not (url.startswith("/") and url.endswith("/")):
                raise RuntimeError(f"cannot create filemap for {folder}: '{url}' must begin and end with /")
            made = Filemap(url, folder, position=len(self._domain.routes), place=caller())
            made.authentication = build_authentication(auth, url, caller()) if auth else None
            self._domain.filemaps.append(made)

    def redirect(self, path: str, status: int, target: str) -> None:
        """Answer paths that a regular expression finds with a redirect; status 300..399 (Kore 4.3 takes any)."""
        if not 300 <= status <= 399:
            raise RuntimeError(f"invalid status code on redirect ({status})")
        self._domain.redirects.append(Redirect(compiled(path), status, target, caller()))

    @property
    def accesslog(self) -> str:
        """The file that requests of this domain are logged to; RuntimeError for a second one."""
        return self._domain.accesslog

    @accesslog.setter
    def accesslog(self, path: str) -> None:
        if self._domain.accesslog:
            raise RuntimeError(f"domain {self._domain.name} accesslog already set")
        self._domain.accesslog = path


def domain(name: str, attach: str = "", **keywords: Any) -> Domain:
    """Make a virtual host on a server. Keywords: key, cert, acme, client_verify, verify_depth, crl (Kore 4).

    Without ``attach`` it belongs to the server "default" or the only one. RuntimeError as in Kore; unlike there,
    domains may follow one that would match their names.
    """
    site = current().site
    made = SiteDomain(name, place=caller())
    where = attach or declarations.home(site)
    certify(made, site.servers[where].tls if where in site.servers else None, keywords)
    if where:
        if any(other.name.lower() == name.lower() for other in site.domains_of(where)):
            raise RuntimeError("domain exists")
        declarations.attach(site, made, where)
    site.domains.append(made)
    return Domain(made)


def certify(made: SiteDomain, tls: bool | None, keywords: Mapping[str, Any]) -> None:
    """Take over the keywords about certificates."""
    refuse_unknown(keywords, ("key", "cert", "acme", "client_verify", "verify_depth", "crl"), "domain")
    made.certkey, made.certfile = keywords.get("key") or "", keywords.get("cert") or ""
    made.acme = bool(keywords.get("acme"))
    if tls and not keywords:
        raise RuntimeError(
            f"no keywords for TLS enabled domain {made.name}: key= and cert=, or a server with tls=False"
        )
    if (tls and not made.acme and not (made.certkey and made.certfile)) or bool(made.certkey) != bool(made.certfile):
        raise RuntimeError("missing key or cert keywords for TLS listener")
    made.client_verify, made.client_crl = keywords.get("client_verify") or "", keywords.get("crl") or ""
    depth = keywords.get("verify_depth", 1)
    if not isinstance(depth, int) or depth < 0:
        raise RuntimeError(f"invalid depth '{depth}'")
    made.client_verify_depth = depth


def route(path: str, *, domain: str = "", **keywords: Any) -> Callable[[F], F]:
    """Decorate a handler: ``@kore.route("/", methods=["get"])`` (Kore 4.2).

    Keywords: ``methods`` (get adds head), per method a dict of parameters to a regular expression or function
    (``get={"id": "^[0-9]+$"}``), ``qs`` the same in the query string of every method, ``hooks`` (a dict of on_headers,
    on_body_chunk, on_free), gkore's limits, and ``auth``: a dict of ``type`` ("cookie", "header" or "request"),
    ``value`` (the cookie's or header's name), ``verify`` (a function) and ``redirect`` (where to send who may not
    come in; without it: 403). The domain is settled when the server starts: named, or the only one.
    """

    place = caller()

    def decorate(function: F) -> F:
        current().promises.append(Promise(build(path, function, keywords, place), domain))
        return function

    return decorate


def build(path: str, handler: Function, keywords: Mapping[str, Any], place: Place) -> Route:
    """A route from its keywords. RuntimeError with Kore's texts; TypeError when the handler can't be called."""
    if not callable(handler):
        raise TypeError(f"the handler of '{path}' is not callable")
    refuse_unknown(keywords, KEYWORDS, "route")
    try:
        made = declarations.make_route(path, place=place)
    except Wrong as why:
        raise RuntimeError(f"Invalid regex ({path}): {why.message}") from None
    made.handler, made.handler_name = handler, getattr(handler, "__qualname__", repr(handler))
    listed = keywords.get("methods")
    if listed is not None:
        if not isinstance(listed, (list, tuple)):
            raise RuntimeError("methods not a list")
        made.methods = declarations.method_bits(listed)
        made.methods |= METHODS["head"] if made.methods & METHODS["get"] else 0
    build_params(made, keywords, place)
    if keywords.get("auth") is not None:
        made.authentication = build_authentication(keywords["auth"], path, place)
    for name, function in (keywords.get("hooks") or {}).items():
        if name not in HOOKS or not callable(function):
            raise RuntimeError(f"{name} for a route not callable")
        setattr(made, name, function)
    made.options = {name: build_limit(name, keywords[name]) for name in LIMITS if keywords.get(name) is not None}
    return made


def build_limit(name: str, value: object) -> Any:
    """A limit as a conf would set it. RuntimeError with what was expected."""
    text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
    try:
        return ROWS[name][0].arguments[0].kind.convert(text)
    except Wrong as why:
        raise RuntimeError(f"{name} for a route: {why.message}, expected {why.expected}") from None


def prerequest(function: F) -> F:
    """Decorate a function that runs before every handler, with the request; False from it ends the request (Kore 4).

    Unlike Kore, an async one can end it, too, and one that has answered does.
    """
    if not callable(function):
        raise TypeError("prerequest: object not callable")
    current().site.prerequests.append(function)
    return function


def build_params(made: Route, keywords: Mapping[str, Any], place: Place) -> None:
    """Declare parameters; Kore passes over them when ``methods`` is absent, which helps nobody."""
    for source in (*METHODS, "qs"):
        for name, check in (keywords.get(source) or {}).items():
            bits = made.methods if source == "qs" else METHODS[source]
            query = source in ("qs", "get")
            declarations.add_param(made, declarations.make_validator(name, check, place), name, bits, query)


def build_authentication(auth: Any, path: str, place: Place) -> Authentication:
    """An authentication from Kore 4's dict: type, value, verify, redirect."""
    if not isinstance(auth, Mapping) or not isinstance(auth.get("type"), str):
        raise RuntimeError("missing or invalid 'type' keyword")
    kind = auth["type"]
    if kind not in ("cookie", "header", "request"):
        raise RuntimeError(f"invalid 'type' ({kind}) in auth dictionary for '{path}'")
    value = auth.get("value")
    if not isinstance(value, str) and kind != "request":
        raise RuntimeError("missing or invalid 'value' keyword")
    verify = auth.get("verify")
    if not callable(verify):
        raise RuntimeError(f"missing 'verify' in auth dictionary for '{path}'")
    validator = declarations.make_validator(path, verify, place)
    return Authentication(path, kind, value or "", validator, auth.get("redirect") or "", place)


def privsep(name: str, *, root: str = "", runas: str = "", skip: list[str] | None = None) -> None:
    """Say what one kind of process may keep: worker, keymgr or acme (Kore 4.2)."""
    found = declarations.find_privsep(current().site, name)
    if skip is not None and not isinstance(skip, list):
        raise RuntimeError("privsep skip keyword needs to be a list")
    for word in skip or []:
        if word != "chroot":
            raise RuntimeError(f"unknown skip keyword '{word}'")
    found.place = found.runas_place = caller()
    found.skip |= set(skip or [])
    found.root, found.runas = root or found.root, runas or found.runas


def compiled(path: str) -> Any:
    try:
        return compile_pattern(path)
    except Wrong as why:
        raise RuntimeError(f"Invalid regex ({path}): {why.message}") from None


def refuse_unknown(keywords: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    for name in keywords:
        if name not in known:
            near = nearest(name, known)
            raise TypeError(f"{what}: unknown keyword '{name}'" + (f", did you mean '{near}'?" if near else ""))
