"""What the directives inside of domains do: routes in three dialects, redirects, files, certificates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gkore.conf import declarations
from gkore.conf.declarations import add_param, method_bits
from gkore.conf.diagnostics import nearest
from gkore.conf.effects import Effect, find_validator
from gkore.conf.loading import ImportFailure, find_object
from gkore.conf.reading import Params, Reading
from gkore.conf.site import METHODS, Authentication, Domain, Filemap, Function, Hosted, Redirect, Route
from gkore.conf.statement import Statement

# -- domains


def domain(reading: Reading, statement: Statement) -> Domain:
    made = Domain(statement["name"], place=statement.place)
    if made.name:
        reading.site.domains.append(made)
    return made


def attach(reading: Reading, statement: Statement) -> None:
    made, name = reading.block.thing, statement["server"]

    def look() -> None:
        servers = reading.site.servers
        try:
            declarations.attach(reading.site, made, name)
        except RuntimeError as failure:
            near = "" if name in servers else nearest(name, servers)
            known = f"one of {', '.join(servers)}" if servers else "a server block of this name"
            reading.report(statement.mistake("server", str(failure), "" if name in servers else known, near))

    reading.at_end(look)


def certfile(reading: Reading, statement: Statement) -> None:
    reading.block.thing.certfile = statement["file"]


def certkey(reading: Reading, statement: Statement) -> None:
    reading.block.thing.certkey = statement["file"]


def acme(reading: Reading, statement: Statement) -> None:
    made = reading.block.thing
    made.acme, made.acme_place = statement["yes|no"], statement.line.place(statement.word("yes|no"))


def client_verify(reading: Reading, statement: Statement) -> None:
    reading.block.thing.client_verify, reading.block.thing.client_crl = statement["ca"], statement["crl"]


def client_verify_depth(reading: Reading, statement: Statement) -> None:
    reading.block.thing.client_verify_depth = statement["depth"]


def accesslog(reading: Reading, statement: Statement) -> None:
    made = reading.block.thing
    if made.accesslog:
        reading.report(
            statement.mistake("file", f"domain {made.name} logs to {made.accesslog} already", "one accesslog")
        )
    made.accesslog = statement["file"]


def redirect(reading: Reading, statement: Statement) -> None:
    made = Redirect(statement["path"], statement["status"], statement["target"], statement.place)
    reading.block.thing.redirects.append(made)


def return_(reading: Reading, statement: Statement) -> None:
    made = Redirect(statement["path"], statement["status"], None, statement.place)
    reading.block.thing.redirects.append(made)


def filemap(reading: Reading, statement: Statement) -> None:
    domain = reading.block.thing
    made = Filemap(statement["url"], statement["directory"], position=len(domain.routes), place=statement.place)
    domain.filemaps.append(made)

    def use(found: Authentication) -> None:
        made.authentication = found

    authenticated(reading, statement, use)


# -- routes


def route(reading: Reading, statement: Statement) -> Route:
    """Kore 4.2's block and Kore 4.0's single line."""
    if statement.opened:
        for label in ("handler", "authentication"):
            if statement[label]:
                message = f"in a route block the {label} stands on a line of its own"
                reading.report(statement.mistake(label, message, "route PATH {"))
    return add(reading, statement)


def static(reading: Reading, statement: Statement) -> None:
    add(reading, statement)


def dynamic(reading: Reading, statement: Statement) -> None:
    add(reading, statement, captures=False)


def add(reading: Reading, statement: Statement, captures: bool = True) -> Route:
    """Append a route to the domain; what names its handler and authentication is looked up at the end."""
    pattern = statement["path"]
    made = Route(statement.text("path"), None if isinstance(pattern, str) else pattern, place=statement.place)
    made.handler_name = statement["handler"]
    reading.enclosing("domain").routes.append(made)
    handled(reading, statement, made, "handler")
    if not statement.opened:
        authenticated(reading, statement, lambda found: setattr(made, "authentication", found))
    return made


def handled(reading: Reading, statement: Statement, made: Route, label: str) -> None:
    def use(function: Function) -> None:
        made.handler = function

    reading.resolve(statement, label, use)


def handler(reading: Reading, statement: Statement) -> None:
    made = reading.block.thing
    made.handler_name = statement["function"]
    handled(reading, statement, made, "function")


def hook(reading: Reading, statement: Statement) -> None:
    made, name = reading.block.thing, statement.row.name
    reading.resolve(statement, "function", lambda function: setattr(made, name, function))


def methods(reading: Reading, statement: Statement) -> None:
    reading.block.thing.methods = method_bits(statement["method"])


def authenticate(reading: Reading, statement: Statement) -> None:
    made = reading.block.thing
    authenticated(reading, statement, lambda found: setattr(made, "authentication", found))


def authenticated(reading: Reading, statement: Statement, use: Any) -> None:
    """Look up the authentication that a line names, at the end."""
    name = statement["authentication"]

    def look() -> None:
        found = reading.site.authentications.get(name)
        if found:
            use(found)
        else:
            near = nearest(name, reading.site.authentications)
            message = f"there is no authentication {name}"
            reading.report(statement.mistake("authentication", message, "an authentication block of this conf", near))

    if name:
        reading.at_end(look)


def wsgi(reading: Reading, statement: Statement) -> None:
    """Import the application; like every Python server this one looks for it in the working directory, too."""
    made, name = reading.block.thing, statement["module:application"]
    made.handler_name = name

    def look() -> None:
        try:
            made.handler = Hosted(find_object(name))
        except ImportFailure as failure:
            reading.report(replace(failure.mistake(), detail=failure.traceback()))
        except LookupError as why:
            reading.report(statement.mistake("module:application", str(why), "MODULE:APPLICATION, a WSGI application"))

    reading.at_end(look)


# -- parameters


def validate(reading: Reading, statement: Statement) -> None:
    made = reading.block.thing
    if isinstance(made, Params):
        reading.at_end(lambda: validate_params(reading, statement, made))
    else:
        reading.at_end(lambda: validate_route(reading, statement, made))


def validate_route(reading: Reading, statement: Statement, made: Route) -> None:
    method, query = statement["[qs:]method"]
    if not METHODS[method] & made.methods:
        message = f"method {method} is not one of this route's"
        reading.report(statement.mistake("[qs:]method", message, "a method that its methods line names"))
    found = find_validator(reading, statement, "validator")
    if found:
        add_param(made, found, statement["name"], METHODS[method], query)


def validate_params(reading: Reading, statement: Statement, made: Params) -> None:
    found = find_validator(reading, statement, "validator")
    if found:
        for target in [one for one in made.domain.routes if one.path == made.path]:
            add_param(target, found, statement["name"], made.methods, made.query)


def params(reading: Reading, statement: Statement) -> Params:
    """Kore 3's block; its routes are those of the domain with the same path, character by character."""
    method, query = statement["[qs:]method"]
    made = Params(statement["path"], METHODS[method], query, reading.enclosing("domain"))

    def look() -> None:
        declared(reading, statement, made.domain)

    reading.at_end(look)
    return made


def restrict(reading: Reading, statement: Statement) -> None:
    made = reading.block.thing

    def look() -> None:
        for target in declared(reading, statement, made):
            target.methods = method_bits(statement["method"])

    reading.at_end(look)


def declared(reading: Reading, statement: Statement, made: Domain) -> list[Route]:
    """The routes of the path that a line names; a mistake when there are none."""
    path = statement["path"]
    found = [one for one in made.routes if one.path == path]
    if not found:
        near = nearest(path, (one.path for one in made.routes))
        message = f"there is no route {path} in this domain"
        reading.report(statement.mistake("path", message, statement.row.arguments[-1].kind.expected, near))
    return found


EFFECTS: dict[str, Effect] = {
    "domain": domain,
    "attach": attach,
    "certfile": certfile,
    "certkey": certkey,
    "acme": acme,
    "client_verify": client_verify,
    "client_verify_depth": client_verify_depth,
    "accesslog": accesslog,
    "redirect": redirect,
    "return": return_,
    "filemap": filemap,
    "route": route,
    "static": static,
    "dynamic": dynamic,
    "restrict": restrict,
    "params": params,
    "handler": handler,
    "methods": methods,
    "validate": validate,
    "authenticate": authenticate,
    "on_headers": hook,
    "on_body_chunk": hook,
    "on_free": hook,
    "wsgi": wsgi,
}
