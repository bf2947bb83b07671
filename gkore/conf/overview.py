"""``gkore routes``: servers, domains and routes as a table, in the order in which they are tried."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gkore.conf.directives import ROWS
from gkore.conf.site import ALL_METHODS, METHODS, Domain, Route, Site, Validator

Row = tuple[str, str, str, str]


def overview(site: Site) -> str:
    """The whole site as text."""
    return "\n".join(lines(site)) + "\n"


def lines(site: Site) -> Iterator[str]:
    for server in site.servers.values():
        binds = ", ".join(map(str, server.binds)) or "no address"
        yield f"server {server.name}: {binds}"
        for domain in site.domains_of(server.name):
            yield f"  domain {domain.name}"
            yield from (f"    {line}" for line in aligned(list(rows(domain))))
    loose = [domain.name for domain in site.domains if not domain.servers]
    if loose:
        yield f"domains without a server: {', '.join(loose)}"
    if not site.servers and not loose:
        yield "nothing is declared"


def rows(domain: Domain) -> Iterator[Row]:
    for redirect in domain.redirects:
        what = f"redirect {redirect.status} {redirect.target}" if redirect.target else f"return {redirect.status}"
        yield "*", written(redirect.pattern), what, ""
    files = sorted(domain.filemaps, key=lambda filemap: filemap.position)
    for place, route in enumerate((*domain.routes, None)):
        while files and (route is None or files[0].position <= place):
            filemap = files.pop(0)
            who = f"auth {filemap.authentication.name}" if filemap.authentication else ""
            yield "get head", f"{filemap.url}*", f"files {filemap.directory}", who
        if route is not None:
            yield methods(route), route.path, route.handler_name, " ".join(checks(route))


def methods(route: Route) -> str:
    if route.methods == ALL_METHODS:
        return "*"
    return " ".join(name for name, bit in METHODS.items() if route.methods & bit)


def checks(route: Route) -> Iterator[str]:
    if route.authentication:
        yield f"auth {route.authentication.name}"
    for param in route.params:
        yield f"{'?' if param.query else ''}{param.name}={shown(param.validator)}"
    for name, value in route.options.items():
        yield f"{name} {ROWS[name][0].arguments[-1].kind.show(value)}"


def shown(validator: Validator) -> str:
    """A validator's name; one that was declared in place has none but its expression or function."""
    if validator.pattern is not None and not validator.name:
        return written(validator.pattern)
    return validator.name or validator.function_name


def aligned(found: list[Row]) -> Iterator[str]:
    widths = [max((len(row[column]) for row in found), default=0) for column in range(3)]
    for row in found:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join((*cells, row[3])).rstrip()


def written(pattern: re.Pattern[str]) -> str:
    """A pattern as a conf has it: ``patterns`` made \\Z of its last $."""
    text = pattern.pattern
    return f"{text[:-2]}$" if text.endswith(r"\Z") else text
