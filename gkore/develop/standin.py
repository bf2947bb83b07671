"""While nothing can be served yet, ``gkore run`` shows the mistake: a server of our own where the application would be.

It listens on the TCP addresses that are known, has one route, and is relieved like any other by the first code that can
be served. Where no address is known none is guessed: the page would be where the application never will. Source lines
leave this machine only when somebody else's code is served, so that only clients on it get the page.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from os.path import abspath
from typing import TYPE_CHECKING, Any

from gkore import log
from gkore.conf import declarations
from gkore.conf.application import Application, adopt, current
from gkore.conf.assembly import beside
from gkore.conf.certificates import make_contexts, speaks_tls
from gkore.conf.reader import read_conf
from gkore.conf.site import Bind, Domain, Server, Site
from gkore.errors import GkoreError
from gkore.master.image import Image
from gkore.master.loop import run

if TYPE_CHECKING:
    from gkore.master.relief import Relief
    from gkore.worker.request import Request

Known = list[dict[str, Any]]
"""Servers as plain data: for another process."""
DECLARED = re.compile(r"^[^#\n]*\bkore\.(server|bind|listen)\s*\(([^()#]*)\)", re.MULTILINE)
SOURCE_MAX = 1 << 20
ADDRESSES_MAX = 64


def whereabouts(conf: str, binds: Iterable[tuple[str, str, str]]) -> Known:
    """Where the current application would listen, as far as it came; ``binds`` are the command line's."""
    application = current()
    site = application.site
    if not site.servers and application.script:
        conf = conf or beside(application.script)
        if conf:
            read_conf(adopt(Application()), conf)
            site = current().site
        else:
            site = spelled(application.script)
    servers = list(site.servers.values())
    if binds := list(binds):
        home = declarations.home(site) or next(iter(site.servers), "")
        servers = [site.servers[home] if home else declarations.implicit_server(site)]
        servers[0].binds = [Bind(*address) for address in binds]
    return list(known(site, servers))


def known(site: Site, servers: Iterable[Server]) -> Iterator[dict[str, Any]]:
    """Servers that a browser could reach; a proxy's and UNIX sockets are not for browsers."""
    for server in servers:
        addresses = [(bind.host, bind.port) for bind in server.binds if not bind.path][:ADDRESSES_MAX]
        if server.proxy_protocol or not addresses:
            continue
        tls = speaks_tls(site, server)
        certificates = [
            (domain.name, abspath(domain.certfile), abspath(domain.certkey))
            for domain in site.domains
            if tls and domain.certfile and domain.certkey and server.name in (*domain.servers, declarations.home(site))
        ]
        if certificates or not tls:
            yield {"name": server.name, "addresses": addresses, "certificates": certificates}


def spelled(script: str) -> Site:
    """The servers without TLS that a script declares in plain words; it is not run, and need not be right."""
    site = Site()
    try:
        with open(script, encoding="utf-8", errors="replace") as file:
            source = file.read(SOURCE_MAX)
    except OSError:
        return site
    for what, arguments in DECLARED.findall(source):
        try:
            call = ast.parse(f"f({arguments.strip()})", mode="eval").body
            assert isinstance(call, ast.Call)
            words = [ast.literal_eval(argument) for argument in call.args]
            named = {word.arg or "": ast.literal_eval(word.value) for word in call.keywords}
        except (SyntaxError, ValueError):
            continue
        ip, port = (named.get("ip"), named.get("port")) if what == "server" else (*words, None, None)[:2]
        tls = named.get("tls", True) if what == "server" else False
        if isinstance(ip, str) and str(port).isdecimal() and not tls:
            name = str(named.get("name") or (words or ["default"])[0]) if what == "server" else declarations.IMPLICIT
            server = site.servers.setdefault(name, Server(name, tls=False))
            server.binds.append(Bind(ip, str(port)))
    return site


def stand_in(why: str, servers: Known, relief: Relief) -> int:
    """Be the master that tells ``why``, until another relieves it; the exit status."""
    from gkore.worker import life

    log.log.quiet = True  # what there is to say, the warm process says
    application = adopt(Application())
    application.refused, application.stands_in = why, True
    for name, value in (("deployment", "dev"), ("workers", 1)):
        application.settings.put(name, value, "gkore run")
    for server in servers:
        declare(application, **server)
    for domain in [wrong for wrong, _ in make_contexts(application.site, application.settings)]:
        application.site.domains.remove(domain)
    for name in list(application.site.servers):
        if not application.site.domains_of(name):
            del application.site.servers[name]
    application.settings.freeze()
    image = Image()
    image.relief = relief
    try:
        image.heritage = relief.take_over()
        return run(application, life.run, image)
    except GkoreError as failure:
        return failure.exit_status  # an address that can't be had: the application's own start has said so


def declare(application: Application, name: str, addresses: Sequence[Any], certificates: Sequence[Any]) -> None:
    """One server with its addresses, and one route for all paths of each domain."""
    site = application.site
    server = declarations.add_server(site, name, bool(certificates))
    for host, port in addresses:
        declarations.add_bind(server, host, port, "")
    for domain in [Domain(name, [], certfile=cert, certkey=key) for name, cert, key in certificates] or [Domain("*")]:
        site.domains.append(domain)
        domain.servers.append(server.name)
        route = declarations.make_route("^.*$")
        route.handler, route.handler_name = lambda request: tell(application, request), "tell"
        domain.routes.append(route)


def tell(application: Application, request: Request) -> None:
    """What is no page that somebody opens is told in plain text."""
    from gkore.worker.refusal import is_here

    here = is_here(request.connection.peer)
    request.response_header("content-type", "text/plain; charset=utf-8")
    request.response(503, (application.refused if here else "not served yet: the terminal says why") + "\n")
