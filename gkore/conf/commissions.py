"""``acme yes``: what must be so before a CA is asked for a certificate."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from gkore.conf.application import Application
from gkore.conf.certificates import speaks_tls
from gkore.conf.diagnostics import Mistake
from gkore.conf.site import Domain

LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
HOST_NAME = re.compile(rf"{LABEL}(\.{LABEL})*")
"""RFC 1123 2.1; other scripts as xn--."""


def commissions(application: Application) -> Iterator[Mistake]:
    """The mistakes in domains with ``acme yes``, each at that word."""
    asked = [domain for domain in application.site.domains if domain.acme and not application.is_spoiled(domain)]
    for domain in asked:
        place = domain.acme_place if domain.acme_place.line else domain.place
        for message, expected in wrong_with(application, domain):
            yield application.mistake(place, message, expected)
    if asked and not installed():
        place = asked[0].acme_place if asked[0].acme_place.line else asked[0].place
        yield application.mistake(place, "the ACME client is not installed", 'pip install "gkore[acme]"')


def wrong_with(application: Application, domain: Domain) -> Iterator[tuple[str, str]]:
    """Each with what was expected."""
    name = domain.name
    if re.search(r"[*?\[]", name):
        yield "ACME gives no certificates for patterns", "a domain without * ? ["
    elif is_address(name):
        yield f"ACME gives no certificate for the address {name}", "a domain with a name, or certfile and certkey"
    elif len(name) > 253 or not HOST_NAME.fullmatch(name):
        yield f"ACME gives no certificate for {name}: that is no host name", "letters, digits, - and dots"
    if domain.certfile or domain.certkey:
        yield f"domain {name} has certfile or certkey, and gets its certificate by ACME", "one of the two"
    servers = [application.site.servers[server] for server in domain.servers]
    if servers and not any(speaks_tls(application.site, server) for server in servers):
        names = " and ".join(server.name for server in servers)
        yield f"server {names} speaks no TLS: a certificate would serve nobody", f"`tls yes` in server {names}"


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def installed() -> bool:
    """Whether the extra is there. By its metadata: an acme.py of the user's is another matter."""
    from importlib.metadata import PackageNotFoundError, distribution  # a twentieth of a start's CPU time

    try:
        distribution("acme")
    except PackageNotFoundError:
        return False
    return True
