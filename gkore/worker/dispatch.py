"""From a request to its answer, for everything that the hot path in ``connection`` does not do itself.

redirect, return, 404, 405     the action is a bare status
plain route                    ``connection.serve`` calls the handler and comes here only for the exceptions
route with a log               ``logged``
any other route                its plan (see ``plan``): limits, authentication, hooks, then the handler
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import gevent

from gkore import log as lines
from gkore.errors import ProtocolError
from gkore.worker import bridge, failures, inflow, streaming
from gkore.worker.accesslog import AccessLog
from gkore.worker.body import Spool
from gkore.worker.plan import Serve, call, run_one

if TYPE_CHECKING:
    from gkore.worker.connection import Connection
    from gkore.worker.request import Request


def finish(result: Any) -> None:
    """Run what a handler returned, when it is a coroutine; any other result is ignored (Kore's worker dies of it)."""
    if isinstance(result, Coroutine):
        bridge.run(result)


def dispatch(request: Request) -> None:
    """Answer a request whose action is not a plain route; with a plan never raises."""
    action = request.action
    plan = action.plan
    if plan is None:
        if action.handler is None:
            request.fail(action.status, action.headers)
        else:
            call(action.handler, request)
        return
    if plan.log is not None and plan.log.timed:
        request.begun = perf_counter_ns()
    try:
        if action.handler is None:
            request.fail(action.status, action.headers)
        elif plan.enter(request):
            if plan.eager:
                deliver(request)
            if not request.answered:
                plan.run(request, action.handler)
        if not request.status:
            unanswered(request)
    except BaseException as failure:
        failed(request, failure)
    finally:
        plan.leave(request)


def logged(log: AccessLog) -> Serve:
    """What serves a route with the commonest plan, a log and nothing else: without the steps that it does not take."""
    take, timed = log.take, log.timed

    def serve(request: Request) -> None:
        action = request.action
        if timed:
            request.begun = perf_counter_ns()
        try:
            result = action.handler(request, *action.groups)
            if result is not None:
                finish(result)
            if not request.status:
                unanswered(request)
        except BaseException as failure:
            failed(request, failure)
        if request.status:
            take(request)

    return serve


def unanswered(request: Request) -> None:
    """The handler is done and nothing was sent: what it left to be streamed, or a 500, where Kore's client waits on."""
    if request.stream is not None:
        streaming.send(request, request.stream)
    elif not request.connection.lost:
        lines.error(f"handler {request.action.name} for {request.line.path} ended without calling req.response")
        request.fail(500)


def failed(request: Request, failure: BaseException) -> None:
    """The handler raised: tell whoever watches, and the client if nothing was sent yet."""
    if isinstance(failure, GeneratorExit) and request.connection.lost:
        return  # we ended it ourselves, because its client left
    if isinstance(failure, ProtocolError):
        if failure.status == 413:  # a bound of ours, which whoever wonders in the night can't see from outside
            lines.notice(f"handler {request.action.name} for {request.line.path}: the client gets 413: {failure}")
        if not request.answered:
            request.keep_alive = False
            request.fail(failure.status, failure.headers)
            return
    else:
        bridge.advise(failure)
        name = f"handler {request.action.name}" if request.action is not None else "the search for a route"
        failures.report(f"{name} for {request.line.path}", failure)
    if request.stream is not None:
        streaming.send(request, request.stream)
    elif not request.status:
        failures.show(request, failure)


# Before the body is whole.


def admit(request: Request, connection: Connection) -> None:
    """Before a body is read: who would refuse the request anyway does it now. ProtocolError 404, 405 or what fits."""
    line = request.line
    request.connection = connection
    service = connection.service
    action = request.action = connection.hosts.find(line.authority or request.fields.host).find(line)
    if action.handler is None and action.status >= 400:
        raise ProtocolError(action.status, "refused before its body", action.headers)
    plan = action.plan
    if not request.limit and (plan is None or plan.body_max is None):
        raise ProtocolError(405, "http_body_max 0: no bodies")  # Kore's status for it
    if plan is not None and plan.body_max is not None:
        request.limit = plan.body_max
    if plan is not None and plan.on_body_chunk is not None:
        request.inlet = deque()
        request.sink = request.inlet.append
    elif hasattr(action.handler, "streams") and inflow.expect(request):
        return
    elif service.storage.threshold and plan is not None:
        length = int(request.fields.get(b"content-length") or 0)
        if length <= request.limit and (length > service.storage.threshold or not length):
            request.spool = Spool(service.storage, length)
            request.sink = request.spool.write
    request.eager = plan is not None and plan.eager


def preview(request: Request) -> None:
    """Let the hooks of an eager route see what is there of a request; on a task. Never raises.

    An answer now ends the connection, because the rest of the body will not be read.
    """
    plan = request.action.plan
    assert plan is not None
    keep_alive, request.keep_alive = request.keep_alive, False
    try:
        if plan.enter(request):
            deliver(request)
        if request.answered and not request.status:
            unanswered(request)
    except BaseException as failure:
        failed(request, failure)
    if request.status or request.connection.lost:
        plan.leave(request)
    else:
        request.keep_alive = keep_alive


def deliver(request: Request) -> None:
    """Run on_headers once, and on_body_chunk for what has come; 500 when that doesn't return True, as in Kore."""
    plan = request.action.plan
    assert plan is not None
    if not request.opened:
        request.opened = True
        if plan.on_headers is not None:
            call(plan.on_headers, request)
    inlet = request.inlet
    while inlet and not request.answered and not request.connection.lost:
        if run_one(plan.on_body_chunk, request, inlet.popleft()) != True:  # noqa: E712  1, RESULT_OK, is meant too
            lines.error(f"on_body_chunk for {request.path} did not return True: the client gets 500")
            request.fail(500)


def abandon(request: Request) -> None:
    """The client left, or was refused, before its request was whole; on the hub."""
    plan = request.action.plan
    if plan is None or request.over:
        return
    request.begun = request.begun or perf_counter_ns()
    if plan.on_free is None:
        plan.leave(request)
    else:
        gevent.spawn(plan.leave, request)
