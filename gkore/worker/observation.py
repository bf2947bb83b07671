"""What watches handlers from outside: histograms and spans, put around them at boot where they are wanted."""

from __future__ import annotations

from typing import Any

from gkore.conf.site import Domain, Function, Route
from gkore.protocol.latency import Label
from gkore.protocol.latency import Latency as Shared
from gkore.worker.latency import Latency
from gkore.worker.tracing import Tracer


class Observation:
    """One worker's; ``shared`` are its rows, when the master serves metrics."""

    __slots__ = ("_latencies", "_shared", "_tracer")

    def __init__(self, shared: Shared | None = None, spans: bool = False) -> None:
        self._shared = shared
        self._latencies: list[Latency] = []
        self._tracer = Tracer() if spans else None

    def around(self, handler: Function, domain: Domain, route: Route) -> Any:
        """The handler of a route, observed as far as somebody wants to know."""
        if self._tracer is not None:
            handler = self._tracer.traced(handler, route.path)
        if self._shared is not None:
            latency = Latency(self._shared.row(Label(domain.name, route.path)))
            self._latencies.append(latency)
            handler = latency.measured(handler, route.pattern is None)
        return handler

    def fold(self) -> None:
        """At each beat: let the master see what has come."""
        for latency in self._latencies:
            latency.fold()
