"""How a connection ends: left after its last answer, refused, lingering, overdue, closed.

RFC 9112 9.6: to close while the client still sends makes the kernel reset the connection, and the reset may overtake
our last answer. So whoever has said too much gets the end of our stream first, and is read for a little longer.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from gevent import get_hub

from gkore import log
from gkore.compiled import mypyc_attr
from gkore.errors import ProtocolError
from gkore.worker.dispatch import abandon
from gkore.worker.heap import RECV
from gkore.worker.peer import Peer

if TYPE_CHECKING:
    from gkore.protocol.request import RequestParser
    from gkore.worker.request import Request
    from gkore.worker.routing import Hosts
    from gkore.worker.service import Service

READ: Final = 1
LIMITS: Final = {
    413: "http_body_max, or the route's body_max",
    414: "http_header_max",
    431: "http_header_max, http_headers_max",
}
"""Which directive says how much is too much: whoever wonders in the night can't see it from outside."""
LINGER: Final = 2
"""Seconds for a refused client to read its answer while we read and drop what it still sends."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Ending(Peer):
    """What a connection holds, and how it lets go of that."""

    __slots__ = ("batch", "fd", "hosts", "lingering", "parser", "refusal", "served", "service", "stash", "watcher")

    def __init__(self, service: Service, sock: Any, peer: Any) -> None:
        super().__init__(sock, service.clock)
        self.service = service
        self.hosts: Hosts = service.hosts
        """Whom its requests may name: all domains of the server, or with TLS those of one certificate."""
        self.fd: int = sock.fileno()
        self.peer = peer
        self.parser: RequestParser[Request] | None = None
        """Ours only while a request is incomplete or what it read is being served."""
        self.batch: list[Request] | None = None
        """Whole requests, queued or being served."""
        self.task = None
        self.stash = b""
        """What came behind the requests that are being served."""
        self.refusal: ProtocolError | None = None
        self.served = False
        self.lingering = False
        self.watcher: Any = get_hub().loop.io(self.fd, READ)

    @property
    def idle(self) -> bool:
        """Nothing has come since the last answer."""
        return self.task is None and self.parser is None and self.batch is None and self.websocket is None

    def leave(self) -> None:
        """The last response is sent: close, but not under the nose of a client that is still sending."""
        if self.out is not None:
            self.uncork()
        self.task = None
        parser, batch = self.parser, self.batch or ()
        self.batch = None
        if self.websocket is not None:
            self.parser = None
            self.websocket.begin()
        elif self.lost:
            self.close()
        elif self.refusal is not None:
            self.refuse(self.refusal)
        elif self.stash or len(batch) > 1 or (parser is not None and (parser.head or parser.leftover)):
            self.linger()
        else:
            self.close()

    def refuse(self, refusal: ProtocolError) -> None:
        """Answer what can't be served, close in order; never waits."""
        limit = LIMITS.get(refusal.status)
        if limit is not None:
            log.seldom(limit, f"refused: {refusal} ({limit}); whoever sends more gets {refusal.status}")
        if self.tell(refusal):
            self.linger()
        else:
            self.close()

    def tell(self, refusal: ProtocolError) -> bool:
        """Send the answer to what can't be served, as far as the kernel takes it; False when the client is gone."""
        if self.parser is not None and self.parser.head is not None:
            self.parser.head.status = refusal.status  # for the access log
        try:
            self.sock.send(self.service.refusal(refusal))
        except OSError:
            return False
        return True

    def linger(self) -> None:
        """Say that nothing more comes, and read on a little, so that no reset overtakes our answer."""
        self.lingering = True
        self._drop_parser()
        self.batch = None
        self.stash = b""
        self.since = self.clock.now
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self.watcher.stop()
        self.watcher.start(self._drop)

    def _drop(self) -> None:
        """What a lingering client still sends is of no interest; its end is."""
        try:
            data = self.sock.recv(RECV)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()

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
        self.batch = None
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
        if self.task is not None or self.batch is not None:
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
