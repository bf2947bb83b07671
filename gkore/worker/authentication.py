"""Who may come in: the cookie, header or request that a route's authentication looks at.

A validator says True or 1 (come in), RESULT_RETRY (ask again later), anything else or an exception: no. Who may not
gets 302 to ``authentication_uri`` when there is one, else 403, unless the validator answered the request itself; Kore
sends nothing for the type ``request``. A cookie is found by its whole name; Kore takes any that begins with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gkore.conf.site import Authentication, Function
from gkore.protocol.cookies import parse_cookies
from gkore.worker import waits
from gkore.worker.parameters import RETRY, verdict

if TYPE_CHECKING:
    from gkore.worker.request import Request

Gate = Callable[["Request"], bool]

RETRY_FIRST, RETRY_MOST = 1, 250
"""Milliseconds between two askings of a validator that says RESULT_RETRY: doubled each time up to the second."""


def gate(authentication: Authentication) -> Gate:
    """What stands before the handler: True lets the request through, False says that it was answered."""
    credential = find_credential(authentication)
    validator = authentication.validator
    function = validator.function if validator is not None else None
    twice = function is not None and authentication.kind == "request" and takes_two(function)

    def passes(request: Request) -> bool:
        found = credential(request)
        if validator is not None and found is not None and asked(request, request if twice else found):
            return True
        if not request.status and request.stream is None:
            refuse(request, authentication.uri)
        return False

    def asked(request: Request, value: Any) -> bool:
        alone = authentication.kind == "request" and not twice
        pause = RETRY_FIRST
        while (said := verdict(validator, request, value, alone=alone)) is RETRY and not request.connection.lost:
            waits.Suspend(pause).wait()
            pause = min(pause * 2, RETRY_MOST)
        return said is True

    return passes


def refuse(request: Request, uri: str) -> None:
    if uri:
        request.fail(302, (("location", uri),))
    else:
        request.fail(403)


def takes_two(function: Function) -> bool:
    """Kore 3.2 calls validators of the type ``request`` with the request twice, later ones once."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = [one.kind for one in parameters if one.default is one.empty]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(kind in positional for kind in kinds) >= 2 or inspect.Parameter.VAR_POSITIONAL in kinds


def find_credential(authentication: Authentication) -> Callable[[Request], Any]:
    """How the credential of one authentication is found in a request; None from it when it isn't there."""
    if authentication.kind == "request":
        return lambda request: request
    name = authentication.value
    if authentication.kind == "header":
        return lambda request: request.request_header(name)

    def cookie(request: Request) -> str | None:
        pairs = parse_cookies(request.fields.all(b"cookie"), request.connection.service.cookies_max)
        return next((value for known, value in pairs if known == name), None)

    return cookie
