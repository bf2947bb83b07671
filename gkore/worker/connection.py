"""The hot path: one client's connection, from its first byte to its last.

Rules, in the order of what they gained (``docs/performance.md`` has the figures):
- One watcher a connection, started once and left running: no epoll_ctl a request. Its callback runs on the hub, reads
  once and feeds the parser. An idle connection holds no greenlet and no parser, only its socket, its watcher and this
  object.
- A whole request whose bytes were seen before is not read again: one look-up says what they mean (``Hosts.seen``).
- Whole requests queue in ``service.ready``; once a turn of the hub one warm task serves them all (``ready.py``): a
  switch a turn instead of one a request.
- Raw sockets; one recv, one feed, one send for a small keep-alive request. What the kernel does not take at once is
  written by ``Output``, which may wait.
- No timer a request: ``since`` is set from a clock that ticks once a second, and ``overdue`` is asked once a second.
- While a task serves, what arrives is stashed, up to a bound; an end of the stream then means that the client left: a
  coroutine is ended (as in Kore), a plain function runs on and its answer is dropped.

Everything between ``readable`` and ``Request.response`` runs for every request: a line added here is paid for by
everybody, and ``tests/test_hotpath.py`` counts the calls.
"""

from __future__ import annotations

from contextlib import suppress
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from gkore.compiled import mypyc_attr
from gkore.errors import ProtocolError
from gkore.worker.bridge import refuse
from gkore.worker.dispatch import failed, finish, preview, unanswered
from gkore.worker.ending import Ending
from gkore.worker.heap import RECV
from gkore.worker.preview import Preview

if TYPE_CHECKING:
    from gkore.protocol.request import RequestParser
    from gkore.worker.request import Request
    from gkore.worker.routing import Action
    from gkore.worker.service import Service

STASH_MAX: Final = 65536
"""Bytes that may wait behind a request that is being served; then the watcher stops and TCP holds the client."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Connection(Ending):
    """One client (``kore.connection``)."""

    __slots__ = ()

    def __init__(self, service: Service, sock: Any, peer: Any) -> None:
        super().__init__(service, sock, peer)
        service.connections.add(self)
        # Under load the request has come with the connection: a client that asks once and leaves never enters epoll.
        self.readable()
        if not self.closed and not self.lingering:
            self.watcher.start(self.readable)

    # On the hub: bytes have come.

    def readable(self) -> None:
        if self.task is not None:
            self._readable_while_busy()
            return
        try:
            data = self.sock.recv(RECV)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        seen = self.hosts.seen.get(data)
        if seen is None or self.parser is not None or self.batch is not None:
            self._read(data)
            return
        service = self.service
        request = service.new_request()
        request.line, request.fields, request.action, request.keep_alive = seen
        # Their defaults, from the class, would be three times as dear to read.
        request.status, request.stream, request._extra = 0, None, None
        self.batch = [request]
        queue = service.queue
        if not queue:
            service.ready.begin()
        queue.append(self)

    def _read(self, data: bytes) -> None:
        """Give ``data`` to the parser, and queue when that makes a request whole."""
        if not data:
            self.close()
            return
        parser = self.parser or self._take_parser()
        try:
            parser.feed(data)
        except ProtocolError as refusal:
            self.refusal = refusal
        if self.batch is not None:
            return  # queued already: ``serve`` sees to this, too
        if parser.complete:
            batch = self.batch = parser.complete
            if len(batch) == 1 and batch[0].keep_alive and parser.idle and not parser.leftover and not self.refusal:
                # Nothing of a next request has come: others may have the parser already (0.2 us less than later).
                parser.complete = []
                self.parser = None
                self.service.parsers.append(parser)
            self.service.ready.add(self)
        else:
            self._incomplete(parser)

    def _take_parser(self) -> RequestParser[Request]:
        service = self.service
        parser = self.parser = service.parsers.pop() if service.parsers else service.new_parser()
        parser.owner = self
        parser.seen = self.hosts.seen
        self.since = service.clock.now
        return parser

    def _readable_while_busy(self) -> None:
        """A request is being served: keep what comes for later, notice when the client leaves."""
        try:
            data = self.sock.recv(STASH_MAX)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self.stash += data
            if len(self.stash) >= STASH_MAX:
                self.watcher.stop()
            return
        self.lost = True
        self.watcher.stop()
        task = self.task
        if task is not None and task.coroutine is not None:
            task.throw(GeneratorExit)

    def _incomplete(self, parser: RequestParser[Request]) -> None:
        """A request has begun and is not whole, or can't be."""
        if self.refusal is not None:
            self.refuse(self.refusal)
            return
        request = parser.head
        if request is None:
            return
        if not request.body_since:
            request.body_since = self.service.clock.now or 1
        if request.eager:
            self.service.ready.add(Preview(self, request))
        elif request.expects_continue:
            self.encourage(request)

    def encourage(self, request: Request) -> None:
        """Say 100 Continue to a client that waits for it before it sends its body."""
        request.expects_continue = False
        with suppress(OSError):  # a client whose buffer is full before it sent a body does not get to send it
            self.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    # On a task: whole requests are served, in order.

    def serve(self) -> None:
        """Answer every request that is whole, then what came meanwhile; leave the connection idle or closed."""
        task = self.task
        assert task is not None
        service = self.service
        while (batch := self.batch) is not None:
            service.fleet.requests += len(batch)
            if len(batch) > 1:
                self.cork()
            for request in batch:
                task.gr_context = None  # context variables are a request's own, and tasks serve many (30 ns)
                request.connection = self
                try:
                    action: Action = request.action or self._route(request)
                    if action.plain:
                        result = action.handler(request)
                        if result is None:
                            pass
                        elif result.__class__ is CoroutineType:
                            task.coroutine = result
                            for stranger in result.__await__():  # 0.1 us less than send and its StopIteration
                                refuse(result, stranger)
                                break
                            task.coroutine = None
                        else:
                            finish(result)
                    else:
                        action.serve(request)
                    if not request.status:
                        unanswered(request)
                except BaseException as failure:
                    task.coroutine = None
                    failed(request, failure)
                if task._ident:
                    task.forget()
                if self.lost or not request.keep_alive:
                    self.refusal = None  # RFC 9112 9.6: what came behind a close is not looked at
                    self.leave()
                    return
            self.batch = None
            if self.parser is not None or self.stash or service.closing:
                self._go_on(batch)
        self.task = None
        self.served = True
        self.since = self.clock.now

    def _route(self, request: Request) -> Action:
        """What answers ``request``. ProtocolError when its Host is none of ours."""
        line = request.line
        hosts = self.hosts
        field = line.authority or request.fields.host
        host = hosts.known.get(field) or hosts.find(field)
        action = host.known.get(line.bare)
        if action is None:
            action = request.action = host.find(line)
        else:
            request.action = action
            if request.chunk:
                hosts.remember(request)
        return action

    def _go_on(self, batch: list[Request]) -> None:
        """Behind a batch: what has come meanwhile is the next one, or there is none."""
        batch.clear()
        if self.out is not None:
            self.uncork()
        parser = self.parser or self._take_parser()
        if parser.complete:  # read while others were queued
            self.batch = parser.complete
            return
        if self.refusal is not None or self.service.closing:
            self.leave()
            return
        if (self.stash or parser.leftover) and self._feed_stash(parser):
            self.batch = parser.complete
            return
        if parser.idle:
            self.parser = None
            self.service.parsers.append(parser)
        elif parser.head is not None:
            self._incomplete(parser)
        if not self.watcher.active:
            self.watcher.start(self.readable)

    def preview(self, request: Request) -> None:
        """On a task: show a request to its route's hooks while its body is still coming, and read on."""
        parser = self.parser
        assert parser is not None
        while True:
            preview(request)
            if request.status or self.lost:
                self.refusal = None
                self.leave()
                return
            if request.expects_continue:
                self.encourage(request)
            if not self.stash:
                break
            if self._feed_stash(parser) or self.refusal is not None:
                self.batch = parser.complete
                self.serve()
                return
        self.task = None
        if not self.watcher.active:
            self.watcher.start(self.readable)

    def _feed_stash(self, parser: RequestParser[Request]) -> bool:
        """Parse what came while a request was served; False when nothing can be served yet."""
        data, self.stash = self.stash, b""
        try:
            if parser.leftover:
                parser.resume()
            if data:
                parser.feed(data)
        except ProtocolError as refusal:
            self.refusal = refusal
            return True
        if not parser.complete:
            self._incomplete(parser)
        return bool(parser.complete)
