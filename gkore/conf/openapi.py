"""``gkore openapi``: the site as an OpenAPI 3.1 document, made from what the server enforces anyway.

Paths, methods, parameters and their expressions come from the routes, titles and descriptions from the handlers'
docstrings (the first line is the summary). A path that is a regular expression becomes a template where that can be
said: ``^/user/([0-9]+)$`` is ``/user/{number}``, after the handler's own argument; any other is left out and counted in
``x-gkore-left-out``. Parameters are never required: gkore hands the handler None for what does not validate.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

from gkore.conf.application import Application
from gkore.conf.site import METHODS, Authentication, Domain, Param, Route, Site

FORM = "application/x-www-form-urlencoded"
BODIES = ("post", "put", "patch")


def openapi(application: Application) -> str:
    """The document as JSON text."""
    return json.dumps(document(application.site), indent=2, ensure_ascii=False) + "\n"


def document(site: Site) -> dict[str, Any]:
    """The document; domains of a site share it, since OpenAPI tells servers apart and not names."""
    made: dict[str, Any] = {"openapi": "3.1.0", "info": {"title": title(site), "version": "0"}, "paths": {}}
    left_out = [route.path for domain in site.domains for route in add_routes(made["paths"], domain)]
    used = {route.authentication.name: route.authentication for route in routes(site) if route.authentication}
    if used:
        made["components"] = {"securitySchemes": {name: scheme(one) for name, one in used.items()}}
    if left_out:
        made["x-gkore-left-out"] = left_out
    return made


def title(site: Site) -> str:
    """The domains' names; where they say nothing (``*``) that of the first handler's module."""
    named = [domain.name for domain in site.domains if not re.search(r"[*?\[]", domain.name)]
    modules = [getattr(route.handler, "__module__", "").partition(".")[0] for route in routes(site)]
    known = [module.removeprefix("application_") for module in modules if module not in ("", "gkore")]
    return ", ".join(named) or (known[0] if known else "gkore")


def routes(site: Site) -> Iterator[Route]:
    for domain in site.domains:
        yield from domain.routes


def add_routes(paths: dict[str, Any], domain: Domain) -> Iterator[Route]:
    """Add a domain's operations to ``paths``; routes whose path can't be written down are given back."""
    for route in domain.routes:
        names = groups(route)
        path = route.path if route.pattern is None else template(route.path, names)
        if path is None:
            yield route
            continue
        item = paths.setdefault(path, {})
        for method, bit in METHODS.items():
            implied = method == "head" and "get" in item
            if route.methods & bit and method not in item and not implied:
                item[method] = operation(route, method, path)


def groups(route: Route) -> list[str]:
    """The handler's names for what its expression captures: its arguments behind ``req``."""
    try:
        names = list(inspect.signature(route.handler).parameters)[1:] if route.handler else []
    except (TypeError, ValueError):
        names = []
    return names


def template(expression: str, names: list[str]) -> str | None:
    """``^/a/([0-9]+)$`` as ``/a/{name}``; None for anything but fixed text and single groups between slashes."""
    anchored = re.fullmatch(r"\^(/.*)\$", expression)
    if not anchored:
        return None
    parts, count = [], 0
    for part in re.split(r"/(?![^(]*\))(?![^\[]*\])", anchored[1][1:]):
        if re.fullmatch(r"\([^()?][^()]*\)", part):
            parts.append("{%s}" % (names[count] if count < len(names) else f"part{count + 1}"))
            count += 1
        elif re.fullmatch(r"(?:[\w~%-]|\\[.])*", part):
            parts.append(part.replace("\\.", "."))
        else:
            return None
    return "/" + "/".join(parts)


def operation(route: Route, method: str, path: str) -> dict[str, Any]:
    """One method of one path."""
    place = re.sub(r"\W+", "_", path)
    made: dict[str, Any] = {"operationId": f"{method}_{route.handler_name or 'handler'}_{place}"}
    summary, _, rest = (inspect.getdoc(route.handler) or "").partition("\n")
    if summary:
        made["summary"] = summary
    if rest.strip():
        made["description"] = rest.strip()
    declared = [param for param in route.params if param.methods & METHODS[method]]
    parameters = [captured(name, expression) for name, expression in captures(route, path)]
    parameters += [{"name": param.name, "in": "query", "schema": schema(param)} for param in declared if param.query]
    if parameters:
        made["parameters"] = parameters
    fields = {param.name: schema(param) for param in declared if not param.query}
    if method in BODIES and fields:
        made["requestBody"] = {"content": {FORM: {"schema": {"type": "object", "properties": fields}}}}
    made["responses"] = responses(route)
    if route.authentication:
        made["security"] = [{route.authentication.name: []}]
    return made


def captures(route: Route, path: str) -> Iterator[tuple[str, str]]:
    """The names in a template, each with its group's expression."""
    expressions = re.findall(r"\(([^()]*)\)", route.path) if route.pattern is not None else []
    yield from zip(re.findall(r"\{(\w+)\}", path), expressions, strict=False)


def captured(name: str, expression: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": f"^{expression}$"}}


def schema(param: Param) -> dict[str, Any]:
    """A parameter's type: always text, with the validator's expression where it has one."""
    made: dict[str, Any] = {"type": "string"}
    if param.validator.pattern is not None:
        made["pattern"] = param.validator.pattern.pattern.replace(r"\Z", "$")  # JSON Schema's are ECMAScript's
    elif param.validator.function is not None:
        made["description"] = f"checked by {param.validator.function_name}"
    return made


def responses(route: Route) -> dict[str, Any]:
    """What any route may answer, and what its protections may; the handler's own statuses are its own."""
    made = {"default": {"description": "what the handler answers"}}
    if route.authentication:
        redirected = bool(route.authentication.uri)
        status, text = ("302", "not authenticated: go there") if redirected else ("403", "not authenticated")
        made[status] = {"description": text}
    if "rate" in route.options:
        made["429"] = {"description": "too many requests"}
    return made


def scheme(authentication: Authentication) -> dict[str, str]:
    """How a client authenticates; a validator of the whole request can be described in words only."""
    if authentication.kind == "request":
        return {"type": "http", "scheme": "custom", "description": f"checked by {authentication.name}"}
    return {"type": "apiKey", "in": authentication.kind, "name": authentication.value}
