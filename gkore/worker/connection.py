"""The hot path: one client's connection, from its first byte to its last.

Rules, in the order of what they gained (``docs/performance.md`` has the figures):
- One watcher a connection, started once and left running: no epoll_ctl a request. Its callback runs on the hub, reads
  once and feeds the parser. An idle connection holds no greenlet and no parser, only its socket, its watcher and this
  object.
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

import socket
from contextlib import suppress
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from gevent import get_hub

from gkore.errors import ProtocolError
from gkore.worker.bridge import refuse
from gkore.worker.dispatch import abandon, failed, finish, preview, unanswered
from gkore.worker.peer import Peer
from gkore.worker.preview import Preview

if TYPE_CHECKING:
    from gkore.protocol.request import RequestParser
    from gkore.worker.bridge import Task
    from gkore.worker.request import Request
    from gkore.worker.service import Service

RECV = 65536
"""One recv. Larger ones cost: above 128 KiB malloc maps and unmaps the block every time (measured: 30 us)."""
STASH_MAX = 65536
"""Bytes that may wait behind a request that is being served; then the watcher stops and TCP holds the client."""
LINGER = 2
"""Seconds for a refused client to read its answer while we read and drop what it still sends (RFC 9112 9.6)."""

READ = 1


class Connection(Peer):
    """One client (``kore.connection``)."""

    __slots__ = (
        "fd",
        "lingering",
        "parser",
        "recv",
        "refusal",
        "served",
        "service",
        "stash",
        "watcher",
    )

    def __init__(self, service: Service, sock: Any, peer: Any) -> None:
        super().__init__(sock, service.clock)
        self.service = service
        self.fd: int = sock.fileno()
        self.peer = peer
        self.recv = sock.recv
        self.parser: RequestParser[Request] | None = None
        """Ours only while a request is incomplete or being served."""
        self.task: Task | None = None
        """The greenlet that serves a request now."""
        self.stash = b""
        self.refusal: ProtocolError | None = None
        self.served = False
        self.lingering = False
        self.watcher: Any = get_hub().loop.io(self.fd, READ)
        service.connections.add(self)
        # Under load the request has come with the connection: a client that asks once and leaves never enters epoll.
        self.readable()
        if not self.closed:
            self.watcher.start(self.readable)

    # On the hub: bytes have come.

    def readable(self) -> None:
        if self.task is not None:
            self._readable_while_busy()
            return
        try:
            data = self.recv(RECV)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        if self.lingering:
            return
        service = self.service
        parser = self.parser
        if parser is None:
            parsers = service.parsers
            parser = self.parser = parsers.pop() if parsers else service.new_parser()
            parser.owner = self
            self.since = service.clock.now
        try:
            parser.feed(data)
        except ProtocolError as refusal:
            self.refusal = refusal
        if not parser.complete:
            self._incomplete(parser)
            return
        service.ready.add(self)

    def _readable_while_busy(self) -> None:
        """A request is being served: keep what comes for later, notice when the client leaves."""
        try:
            data = self.recv(RECV)
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
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    # On a task: whole requests are served, in order.

    def serve(self) -> None:
        """Answer every request that the parser holds, then what came meanwhile; leave the connection idle or closed."""
        parser = self.parser
        if parser is None:
            return  # closed while it was queued
        task = self.task
        assert task is not None
        hosts = self.service.hosts
        domains = hosts.known
        while True:
            batch = parser.complete
            count = len(batch)
            self.service.fleet.requests += count
            if count > 1:
                self.cork()
            for request in batch:
                request.connection = self
                line = request.line
                try:
                    field = line.authority or request.fields.host
                    host = domains.get(field) or hosts.find(field)
                    action = request.action = host.known.get(line.text) or host.find(line)
                    if action.plain:
                        result = action.handler(request)
                        if result.__class__ is CoroutineType:
                            task.coroutine = result
                            for stranger in result.__await__():  # 0.1 us less than send and its StopIteration
                                refuse(result, stranger)
                                break
                            task.coroutine = None
                        elif result is not None:
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
                    self.leave(parser)
                    return
            batch.clear()
            if self.out is not None:
                self.uncork()
            if self.refusal is not None or self.service.closing:
                self.leave(parser)
                return
            if not self.stash and not parser.leftover:
                break
            if not self._feed_stash(parser):
                break
        self.task = None
        self.served = True
        self.since = self.clock.now
        if parser.head is None and not parser.partial:
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
                self.leave(parser)
                return
            if request.expects_continue:
                self.encourage(request)
            if not self.stash:
                break
            if self._feed_stash(parser) or self.refusal is not None:
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

    # The end.

    def leave(self, parser: RequestParser[Request]) -> None:
        """The last response is sent: close, but not under the nose of a client that is still sending."""
        if self.out is not None:
            self.uncork()
        self.task = None
        if self.websocket is not None:
            self.parser = None
            self.websocket.begin()
        elif self.lost:
            self.close()
        elif self.refusal is not None:
            self.refuse(self.refusal)
        elif self.stash or parser.head is not None or len(parser.complete) > 1 or parser.leftover:
            self._linger()
        else:
            self.close()

    def refuse(self, refusal: ProtocolError) -> None:
        """Answer what can't be served, close in order; never waits."""
        try:
            self.send(self.service.refusal(refusal))
        except OSError:
            self.close()
            return
        self._linger()

    def _linger(self) -> None:
        """Say that nothing more comes, and read on a little, so that no reset overtakes our answer."""
        self.lingering = True
        self._drop_parser()
        self.stash = b""
        self.since = self.clock.now
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        if not self.watcher.active:
            self.watcher.start(self.readable)

    def _drop_parser(self) -> None:
        parser, self.parser = self.parser, None
        if parser is not None and parser.head is not None:
            abandon(parser.head)

    def close(self) -> None:
        """Close now, whatever is on its way; a second call does nothing."""
        if self.closed:
            return
        self.closed = self.lost = True
        if self.websocket is not None:
            self.websocket.vanish()
        self._drop_parser()
        self.watcher.stop()
        self.watcher.close()
        self.service.connections.discard(self)
        self.sock.close()

    def overdue(self, now: int) -> None:
        """Asked once a second: has this client used up its time?"""
        if self.websocket is not None:
            self.websocket.overdue(now)
            return
        age = now - self.since
        service = self.service
        if self.task is not None:
            if self.writing and age > service.write_timeout:
                self.abort()
        elif self.lingering:
            if age > LINGER:
                self.close()
        elif self.parser is None or not (self.parser.head or self.parser.partial.strip(b"\r\n")):
            # Nothing has begun; an old client's CRLF behind a POST is nothing too.
            if age > (service.keepalive_time if self.served else service.header_timeout):
                self.close()
        elif self.parser.head is None:
            if age > service.header_timeout:
                self.refuse(ProtocolError(408, "head not complete in time"))
        elif now - self.parser.head.body_since > service.body_timeout:
            self.refuse(ProtocolError(408, "body not complete in time"))
