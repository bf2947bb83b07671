"""Newer code that can't be served, with ``deployment dev``: browsers are told, all else is answered by this code.

A page that somebody opens (a navigation: GET, for HTML) is answered with why, so that it is read where the change was
meant to be seen. Scripts, images, fetch, forms, websockets, curl and tests get what this code says, as before. The page
asks to be told of the end (``WAIT``) and loads itself again when the code is mended, or wrong in another way.

Nothing of this is on the way of a request until there is a refusal.
"""

from __future__ import annotations

from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from gkore.protocol.line import METHODS, RequestLine
from gkore.worker import bridge, errorpage, waits
from gkore.worker.errorpage import WAIT
from gkore.worker.routing import Action, Host

if TYPE_CHECKING:
    from gkore.conf.application import Application
    from gkore.protocol.bus import Envelope
    from gkore.worker.request import Request
    from gkore.worker.service import Service


class Refusal:
    """Why newer code is not served, as this worker tells it."""

    def __init__(self, services: list[Service], application: Application) -> None:
        self.why = ""
        self.private = application.stands_in
        """Only clients on this machine are told."""
        self.over: str | None = None
        """What this worker drains for, once it does."""
        self.waiting: list[waits.Waiter] = []
        self._services = services
        if application.refused:
            self.tell(application.refused)

    def heard(self, envelope: Envelope) -> None:
        """The master has tried newer code."""
        self.tell(envelope.payload.decode("utf-8", "replace"))

    def tell(self, why: str) -> None:
        """Answer navigations with ``why`` from now on."""
        if not self.why:
            for service in self._services:
                service.hosts.divert(partial(Diverted, self))
                if service.greeter is not None:
                    service.greeter.forget()
        self.why = why
        self._wake()

    def end(self, reason: str) -> None:
        """This worker drains: for newer code that is served, or because the server stops."""
        self.over = reason
        self._wake()

    def serve(self, action: Action, request: Request) -> None:
        """Answer a GET that ``action`` would answer."""
        request.action = action
        if self.private and not is_here(request.connection.peer):
            action.serve(request)
        elif request.request_header(WAIT):
            bridge.run(self._wait(request))
        elif navigates(request):
            headers = (("content-type", "text/html; charset=utf-8"), ("cache-control", "no-store"))
            request.fail(500, headers, errorpage.refusal(self.why))
        else:
            action.serve(request)

    async def _wait(self, request: Request) -> None:
        """Answer when there is something new to see; one that stops says so, and the page asks its successor."""
        if self.over is None and request.request_header(WAIT) == errorpage.mark(self.why):
            await News(self)
        request.fail(503, ((WAIT, "again"),)) if self.over == "stop" else request.fail(205)

    def _wake(self) -> None:
        for waiter in self.waiting:
            waiter.wake()
        self.waiting.clear()


class News(waits.Awaitable):
    """Other code, or another mistake."""

    __slots__ = ("_refusal",)

    def __init__(self, refusal: Refusal) -> None:
        self._refusal = refusal

    def wait(self) -> None:
        waiter, waiting = waits.Waiter(), self._refusal.waiting
        waiting.append(waiter)
        try:
            waiter.wait(self)
        finally:
            if waiter in waiting:
                waiting.remove(waiter)

    def __str__(self) -> str:
        return "code that can be served"


class Diverted(Host):
    """A domain whose GET requests the refusal sees first; ``known`` stays empty, so that it sees all of them."""

    __slots__ = ("_host", "_refusal")

    def __init__(self, refusal: Refusal, host: Host) -> None:
        self.declared, self.name, self.bare = host.declared, host.name, host.bare
        self.known = {}
        self._host = host
        self._refusal = refusal

    def find(self, line: RequestLine) -> Action:
        action = self._host.find(line)
        if line.method != METHODS[b"GET"]:
            return action
        return action.through(partial(self._refusal.serve, action))


def is_here(peer: Any) -> bool:
    """Whether a client is on this machine: its address and port, or the path of its UNIX socket."""
    return not isinstance(peer, tuple) or ip_address(peer[0].partition("%")[0]).is_loopback


def navigates(request: Request) -> bool:
    """Whether somebody opens a page (Fetch Metadata; browsers without it, or far away over http, ask for HTML)."""
    mode = request.request_header("sec-fetch-mode")
    return mode == "navigate" if mode else "text/html" in (request.request_header("accept") or "")
