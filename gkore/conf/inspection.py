"""What only the whole site shows: domains without a server, routes that can never run, users that don't exist."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from gkore.conf import declarations
from gkore.conf.application import HOOKS, Application
from gkore.conf.certificates import make_contexts
from gkore.conf.commissions import commissions
from gkore.conf.diagnostics import Mistake, nearest
from gkore.conf.kinds import unknown_user
from gkore.conf.site import Domain, Filemap, Place, Privsep, Server


def inspect(application: Application) -> Iterator[Mistake]:
    """The mistakes of the site as a whole; what a wrong line may have left incomplete is passed over."""
    yield from idle(application)
    yield from settle(application)
    for domain in application.site.domains:
        yield from routes(application, domain)
        for filemap in domain.filemaps:
            yield from files(application, filemap)
        if not application.is_spoiled(domain):
            yield from certificates(application, domain)
    yield from commissions(application)
    for domain, wrong in make_contexts(application.site, application.settings):
        yield application.mistake(domain.place, wrong, "a certificate chain and its key, unencrypted, as PEM files")
    for server in application.site.servers.values():
        if not server.binds and not application.is_spoiled(server):
            yield from addresses(application, server)
    if not application.has_hook("parent_configure"):
        yield from bus(application)
    for privsep in application.site.privseps.values():
        yield from process(application, privsep)


def settle(application: Application) -> Iterator[Mistake]:
    """Give routes of ``@kore.route`` their domains, and domains their servers."""
    for promise in application.promises:
        try:
            declarations.keep(application.site, promise.route, promise.domain)
        except RuntimeError as failure:
            yield application.mistake(promise.route.place, str(failure))
    application.promises.clear()
    yield from attach_domains(application)


def attach_domains(application: Application) -> Iterator[Mistake]:
    """Give domains that name no server the implicit or only one; say which can't be given one."""
    site = application.site
    if not site.servers:
        return  # kore_parent_configure or --bind may still make one
    home = declarations.home(site)
    for domain in site.domains:
        if domain.servers:
            continue
        if not home:
            message = f"domain '{domain.name}' not attached to server"
            yield application.mistake(domain.place, message, f"attach {' or '.join(site.servers)} in this block")
            continue
        try:
            declarations.attach(site, domain, home)
        except RuntimeError:
            twin = next(one for one in site.domains_of(home) if one.name.lower() == domain.name.lower())
            message = f"server {home} has a domain {domain.name} already, at {twin.place}"
            yield application.mistake(domain.place, message, "one block for each name")


def routes(application: Application, domain: Domain) -> Iterator[Mistake]:
    for route in domain.routes:
        first = declarations.overlapping(domain, route)
        if first:
            message = f"duplicate route for '{route.path}': the one at {first.place} answers the same methods"
            yield application.mistake(route.place, message, "routes of one path with different methods")
        if route.handler is None and not route.handler_name and not application.is_spoiled(route):
            message = f"the route {route.path} has no handler"
            yield application.mistake(route.place, message, "a block with handler FUNCTION, or route PATH FUNCTION")


def idle(application: Application) -> Iterator[Mistake]:
    """A script that declares nothing and whose functions nobody would call: a WSGI application, most often."""
    script, site = application.script, application.site
    declared = site.servers or site.domains or application.promises
    if not script or not application.modules or declared or any(map(application.has_hook, HOOKS)):
        return
    module = os.path.splitext(os.path.basename(os.path.normpath(script)))[0]
    message = "nothing in it declares a server or a domain: it would serve nobody"
    wsgi = f"if it is a WSGI application, `wsgi {module}:app` in a route of a kore.conf, and gkore -c kore.conf"
    yield Mistake(Place(script), message, expected=f"kore.server and kore.domain; {wsgi}")


def bus(application: Application) -> Iterator[Mistake]:
    """A database that carries broadcasts and that nobody has declared, nor can in kore_worker_configure."""
    setting = application.settings.websocket_bus
    kind, _, name = setting.partition(" ")
    name = name.strip()
    if kind != "postgres" or name in application.databases or application.has_hook("worker_configure"):
        return
    file, _, line = application.settings.origin("websocket_bus").rpartition(":")
    place = Place(file or line, int(line) if file else 0, 0)
    if file:
        place = replace(place, column=application.source(place).rfind(name) + 1)
    expected = f'a database that is declared, with kore.dbsetup("{name}", "dbname=...")'
    near = nearest(name, application.databases)
    yield application.mistake(place, f"websocket_bus: no database is called {name}", expected, near)


def files(application: Application, filemap: Filemap) -> Iterator[Mistake]:
    root = application.site.privsep("worker").root
    if not os.path.isdir(os.path.join(root, filemap.directory)):
        where = root or os.getcwd()
        message = f"there is no directory {filemap.directory} below {where}"
        yield application.mistake(filemap.place, message, "a directory, relative to root")


def certificates(application: Application, domain: Domain) -> Iterator[Mistake]:
    """Kore 4 refuses a TLS server's domain without both files; Kore 3.3 one with only one of them."""
    if bool(domain.certfile) != bool(domain.certkey) and not domain.acme:
        missing = "certkey" if domain.certfile else "certfile"
        yield application.mistake(
            domain.place, f"incomplete TLS setup for '{domain.name}'", f"{missing} FILE in this block"
        )
        return
    if domain.certfile or domain.acme:
        return
    for name in domain.servers:
        if application.site.servers[name].tls:
            message = f"incomplete TLS setup for '{domain.name}': server {name} speaks TLS"
            expected = f"certfile and certkey in this block, or `tls no` in server {name}"
            yield application.mistake(domain.place, message, expected)


def addresses(application: Application, server: Server) -> Iterator[Mistake]:
    mistake = application.mistake(server.place, f"server {server.name} has no address", "bind HOST PORT in this block")
    yield replace(mistake, lenient=True)


def process(application: Application, privsep: Privsep) -> Iterator[Mistake]:
    wrong = unknown_user(privsep.runas) if privsep.runas and not application.no_runas else None
    if wrong:
        yield application.mistake(privsep.runas_place, wrong.message, wrong.expected, wrong.suggestion)
    if privsep.root and not os.path.isdir(privsep.root):
        message = f"there is no directory {privsep.root} for the {privsep.name} process"
        yield application.mistake(privsep.place, message, "a directory that exists")
