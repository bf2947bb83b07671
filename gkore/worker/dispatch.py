"""From a request to its answer, for everything that the hot path in ``connection`` does not do itself.

redirect, return, 404, 405     the action is a bare status
plain route                    ``connection.serve`` calls the handler and comes here only for the exceptions
any other route                limits, authentication, hooks, then the handler
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from gkore import log
from gkore.errors import ProtocolError
from gkore.worker import bridge, failures

if TYPE_CHECKING:
    from gkore.worker.connection import Connection
    from gkore.worker.request import Request


def finish(result: Any) -> None:
    """Run what a handler returned, when it is a coroutine; any other result is ignored (Kore's worker dies of it)."""
    if isinstance(result, Coroutine):
        bridge.run(result)


def dispatch(request: Request) -> None:
    """Answer a request whose action is not a plain route."""
    action = request.action
    if action.handler is None:
        request.fail(action.status, action.headers)
        return
    finish(action.handler(request, *action.groups))


def unanswered(request: Request) -> None:
    """The handler is done and has said nothing: Kore's client would wait for ever, ours gets a 500."""
    log.error(f"handler {request.action.name} for {request.line.path} ended without calling req.response")
    request.fail(500)


def failed(request: Request, failure: BaseException) -> None:
    """The handler raised: tell whoever watches, and the client if nothing was sent yet."""
    if isinstance(failure, GeneratorExit) and request.connection.lost:
        return  # we ended it ourselves, because its client left
    if isinstance(failure, ProtocolError):
        if not request.status:
            request.keep_alive = False
            request.fail(failure.status, failure.headers)
        return
    failures.report(f"handler {request.action.name} for {request.line.path}", failure)
    if not request.status:
        request.fail(500)


def admit(request: Request, connection: Connection) -> None:
    """Before a body is read: who would refuse the request anyway does it now. ProtocolError 404, 405 or what fits."""
    line = request.line
    request.connection = connection
    action = connection.service.hosts.find(line.authority or request.fields.host).find(line)
    if action.handler is None and action.status >= 400:
        raise ProtocolError(action.status, "refused before its body", action.headers)
