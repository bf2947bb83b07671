"""What stands around one handler, decided at boot: a route that needs none of it has no plan and is served at once.

    enter    requests at once, rate, authentication, prerequest functions: each may answer and end it here
    deliver  on_headers, on_body_chunk (these two before the body is whole, see ``connection``)
    run      the handler, under its deadline
    leave    on_free, the body's file, the access log's line

A Plan is made once a route and worker, whatever servers the route belongs to: it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from gkore.conf.site import Function, Route
from gkore.errors import Overtime
from gkore.worker import bridge, failures
from gkore.worker.limits import Concurrency, Deadline, overrun

if TYPE_CHECKING:
    from gkore.worker.accesslog import AccessLog
    from gkore.worker.request import Request

Gate = Callable[["Request"], bool]
Serve = Callable[["Request"], None]


class Plan:
    """Everything about one route but its handler."""

    __slots__ = (
        "_concurrency",
        "_gates",
        "body_max",
        "compress",
        "log",
        "on_body_chunk",
        "on_free",
        "on_headers",
        "only_log",
        "timeout",
    )

    def __init__(self, gates: Iterable[Gate] = (), log: AccessLog | None = None, compress: bool = False) -> None:
        self._gates = tuple(gates)
        self._concurrency: Concurrency | None = None
        self.timeout = 0.0
        """Seconds for the handler, and for each piece of a body that comes in pieces; 0: as long as it takes."""
        self.log = log
        self.compress = compress
        self.body_max: int | None = None
        self.on_headers: Function | None = None
        self.on_body_chunk: Function | None = None
        self.on_free: Function | None = None
        self.only_log: Serve | None = None
        """Serves a request whole, when there is nothing to do beside but to log it."""

    def limit(self, route: Route) -> None:
        """Take over what ``route`` says about itself."""
        options = route.options
        self.body_max = options.get("body_max")
        self.timeout = options.get("timeout") or 0.0
        if options.get("concurrency"):
            self._concurrency = Concurrency(options["concurrency"])
        self.on_headers, self.on_body_chunk, self.on_free = route.on_headers, route.on_body_chunk, route.on_free

    @property
    def bare(self) -> bool:
        """Nothing stands around the handler but a log."""
        return not (self._gates or self.compress or self.timeout or self._concurrency or self.on_free or self.eager)

    @property
    def eager(self) -> bool:
        """The route wants to see requests before they are whole."""
        return self.on_headers is not None or self.on_body_chunk is not None

    def enter(self, request: Request) -> bool:
        """Whether the handler may run; if not, the request is answered. Asked once a request."""
        if request.entered is not None:
            return request.entered
        concurrency = self._concurrency
        if concurrency is not None and not concurrency.enter(request):
            request.entered = False
            return False
        request.entered = True
        for gate in self._gates:
            if not gate(request):
                request.entered = False
                if concurrency is not None:
                    concurrency.leave()
                break
        return request.entered

    def run(self, request: Request, handler: Function) -> None:
        """The handler, and its coroutine if it gives one."""
        if not self.timeout:
            call(handler, request)
            return
        try:
            with Deadline(self.timeout):
                call(handler, request)
        except Overtime as late:
            overrun(request, late)

    def leave(self, request: Request) -> None:
        """The request is over, answered or not."""
        request.over = True
        if self._concurrency is not None and request.entered:
            self._concurrency.leave()
        if self.on_free is not None:
            freed(self.on_free, request)
        request.release()
        if self.log is not None and request.status:
            self.log.take(request)


def call(handler: Function, request: Request) -> Any:
    """``handler(request, *captures)``, awaited when it is a coroutine function."""
    result = handler(request, *request.action.groups)
    return bridge.run(result) if isinstance(result, Coroutine) else result


def freed(function: Function, request: Request) -> None:
    try:
        run_one(function, request)
    except Exception as failure:
        failures.report(f"on_free of {request.line.path}", failure)


def run_one(function: Any, *arguments: Any) -> Any:
    """``function(*arguments)``, awaited when it is a coroutine function."""
    result = function(*arguments)
    return bridge.run(result) if isinstance(result, Coroutine) else result


def prerequest(function: Function) -> Gate:
    """A ``@kore.prerequest`` function as a gate: False from it, or an answer, ends the request; async ones, too."""

    def passes(request: Request) -> bool:
        if run_one(function, request) is False and not request.answered:
            request.fail(403)  # Kore sends nothing, and the client waits
        return not request.answered

    return passes
