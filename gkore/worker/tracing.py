"""``otel yes``: one OpenTelemetry span for each request that a route's handler answers.

The API alone: the application configures an SDK with its exporters, best in ``kore_worker_configure`` (exporters have
threads, which a fork does not take along); without one nothing is recorded. The caller's context is taken over from its
headers (``traceparent``, or what OTEL_PROPAGATORS says), and the span is the current one in the handler: each task has
context variables of its own. Names of attributes are those of the semantic conventions for HTTP, stable since 1.23.

The package is an extra: whoever reads ``otel yes`` imports it, in the parent, and only then a Tracer is made.
"""

from __future__ import annotations

import sys
from functools import update_wrapper
from importlib import import_module
from inspect import iscoroutinefunction
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from gkore import __version__
from gkore.conf.site import Function
from gkore.errors import Overtime, ProtocolError

if TYPE_CHECKING:
    from gkore.worker.request import Request


def trace() -> Any:
    return sys.modules["opentelemetry.trace"]


def context() -> Any:
    return sys.modules["opentelemetry.context"]


class Tracer:
    """Makes the spans of one worker."""

    def __init__(self) -> None:
        self._tracer = trace().get_tracer("gkore", __version__)
        self._extract = import_module("opentelemetry.propagate").extract
        self._getter = Headers()

    def traced(self, handler: Function, path: str) -> Function:
        """The handler of the route ``path``, in a span from its call to its end."""
        if iscoroutinefunction(handler):

            async def awaited(request: Request, *groups: str) -> None:
                with Span(self._begin(request, path), request):
                    await handler(request, *groups)

            return update_wrapper(awaited, handler)

        def called(request: Request, *groups: str) -> Any:
            span = Span(self._begin(request, path), request)
            with span:
                result = handler(request, *groups)
                if result.__class__ is CoroutineType:
                    span.leave_open()
                    return resumed(span, result)
            return None

        return update_wrapper(called, handler)

    def _begin(self, request: Request, path: str) -> tuple[Any, Any]:
        """A new span and the context in which it is current."""
        parent = self._extract(request, getter=self._getter)
        verb = request.line.verb.decode()
        span = self._tracer.start_span(
            f"{verb} {path}", parent, trace().SpanKind.SERVER, attributes=attributes(request, verb, path)
        )
        return span, trace().set_span_in_context(span, parent)


async def resumed(span: Span, coroutine: Any) -> None:
    """The coroutine that a plain function has returned, in the span of that."""
    with span:
        await coroutine


class Span:
    """A span around a handler: current while that runs, ended with what came of it."""

    __slots__ = ("_context", "_open", "_request", "_span", "_token")

    def __init__(self, begun: tuple[Any, Any], request: Request) -> None:
        self._span, self._context = begun
        self._request = request
        self._token: Any = None
        self._open = False

    def leave_open(self) -> None:
        """It is entered once more."""
        self._open = True

    def __enter__(self) -> None:
        self._token = context().attach(self._context)

    def __exit__(self, kind: object, failure: BaseException | None, trace_back: object) -> None:
        context().detach(self._token)
        if self._open and failure is None:
            self._open = False
            return
        span = self._span
        if span.is_recording():
            status = status_of(self._request, failure)
            if status:
                span.set_attribute("http.response.status_code", status)
            if failure is not None and status >= 500:
                span.record_exception(failure)
                span.set_attribute("error.type", f"{failure.__class__.__module__}.{failure.__class__.__qualname__}")
                span.set_status(trace().StatusCode.ERROR, str(failure))
            elif status >= 500:
                span.set_attribute("error.type", str(status))
                span.set_status(trace().StatusCode.ERROR)
        span.end()


def status_of(request: Request, failure: BaseException | None) -> int:
    """What the client gets; 0 when it has left."""
    if request.status:
        return request.status
    if request.stream is not None:
        return request.stream.status
    if isinstance(failure, ProtocolError):
        return failure.status
    if isinstance(failure, Overtime):
        return 503
    return 0 if isinstance(failure, GeneratorExit) or request.connection.lost else 500


def attributes(request: Request, verb: str, path: str) -> dict[str, Any]:
    """What is known of a request before it is served."""
    line, service = request.line, request.connection.service
    found: dict[str, Any] = {
        "http.request.method": verb,
        "http.route": path,
        "url.path": line.path,
        "url.scheme": request.protocol,
        "network.protocol.version": f"1.{line.minor}",
        "client.address": request.client,
    }
    if line.query:
        found["url.query"] = request.query
    name, _, port = request.host.rpartition(":") if not request.host.endswith("]") else (request.host, "", "")
    found["server.address"] = name or request.host
    if name and port.isdecimal():
        found["server.port"] = int(port)
    peer = request.connection.peer
    if isinstance(peer, tuple):
        found["network.peer.address"], found["network.peer.port"] = peer[:2]
    if request.agent is not None:
        found["user_agent.original"] = request.agent
    if service.proxies is not None:
        found["gkore.request_id"] = request.request_id
    return found


class Headers:
    """How a propagator reads a request's headers."""

    def get(self, carrier: Any, key: str) -> list[str] | None:
        values = carrier.fields.all(key.lower().encode("latin-1", "replace"))
        return [value.decode("latin-1") for value in values] or None

    def keys(self, carrier: Any) -> list[str]:
        return list(carrier.headers())
