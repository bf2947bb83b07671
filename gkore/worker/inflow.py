"""Bodies that an application reads while they come: ``wsgi.input``.

- A body of at most WHOLE_MAX bytes is whole before the application is called, so that slow senders hold no task.
- Of a larger one, or one of unknown length, the application gets what the socket gives. While it does not read, nobody
  does, and TCP holds the client: memory stays bounded by one recv, however large the body is.
- 100 Continue is said when the application first reads (RFC 9110 10.1.1).
- What it leaves unread is read and dropped up to DRAIN_MAX bytes; a connection with more to come is closed.
"""

from __future__ import annotations

import io
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from gevent import get_hub

from gkore.errors import ProtocolError
from gkore.worker import waits

if TYPE_CHECKING:
    from gkore.worker.request import Request

WHOLE_MAX = 65536
DRAIN_MAX = 262144
RECV = 65536
READ = 1


def expect(request: Request) -> bool:
    """Before a body is read: whether the application is to read it; if so, its pieces are kept for it."""
    fields = request.fields
    length = fields.get(b"content-length")
    if length is not None and int(length) <= WHOLE_MAX and fields.get(b"expect") is None:
        return False
    request.inlet = deque()
    request.sink = request.inlet.append
    request.eager = request.streamed = True
    return True


class Inflow(io.RawIOBase):
    """One body. Reading raises OSError, the same again and again, when it can't be had whole: then see ``refusal``."""

    def __init__(self, request: Request) -> None:
        connection = request.connection
        assert request.inlet is not None
        assert connection.parser is not None
        self._request = request
        self._connection = connection
        self._parser = connection.parser
        self._pieces: deque[Any] = request.inlet
        self._seen = 0
        self._patience = float(connection.service.body_timeout)
        """Seconds that the client may still let us wait; the time that the application takes is its own."""
        self.failure: OSError | None = None
        self.refusal: ProtocolError | None = None
        """What to answer to a client whose body failed; None when it is gone."""

    @property
    def whole(self) -> bool:
        """Everything has come."""
        return self._parser.head is not self._request

    @property
    def ends(self) -> bool:
        """Little enough is missing to wait for, so that the connection can be kept."""
        if self.whole:
            return True
        length = self._request.fields.get(b"content-length")
        if length is None or self._request.expects_continue or self.failure is not None:
            return False
        return int(length) - self._seen - sum(map(len, self._pieces)) <= DRAIN_MAX

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` with what is there, waiting until there is something; 0 at the end of the body."""
        pieces = self._pieces
        while not pieces:
            if self.whole:
                return 0
            self._more()
        piece = pieces[0]
        size = min(len(buffer), len(piece))
        buffer[:size] = piece[:size]
        self._seen += size
        if size == len(piece):
            pieces.popleft()
        else:
            pieces[0] = memoryview(piece)[size:]
        return size

    def _more(self) -> None:
        if self.failure is not None:
            raise self.failure
        request, connection = self._request, self._connection
        if request.expects_continue:
            if request.status:
                self._fail(OSError("the client was answered before it was asked for its body"), None)
            connection.encourage(request)
        data = self._receive()
        if not data:
            connection.lost = True
            self._fail(ConnectionResetError("the client left before its body was whole"), None)
        try:
            self._parser.feed(data)
        except ProtocolError as refusal:
            if self.whole:
                connection.refusal = refusal  # what came behind the body is wrong
            else:
                self._fail(OSError(f"the body can't be read: {refusal}"), refusal)
        if self.whole and not connection.watcher.active:
            connection.watcher.start(connection.readable)

    def _receive(self) -> bytes:
        connection = self._connection
        while True:
            try:
                data: bytes = connection.sock.recv(RECV)
            except (BlockingIOError, InterruptedError):
                self._wait()
            except OSError:
                return b""
            else:
                return data

    def _wait(self) -> None:
        watcher = get_hub().loop.io(self._connection.fd, READ)
        begun = monotonic()
        try:
            waits.wait(self, watcher.start, watcher.stop, self._patience)
        except TimeoutError:
            late = "the body did not come within http_body_timeout"
            self._fail(TimeoutError(late), ProtocolError(408, late))
        finally:
            watcher.close()
            self._patience -= monotonic() - begun

    def _fail(self, failure: OSError, refusal: ProtocolError | None) -> None:
        self.failure, self.refusal = failure, refusal
        raise failure

    def settle(self) -> None:
        """The request is answered: read and drop what the application left, or see that the connection is closed."""
        request, dropped = self._request, 0
        try:
            while not self.whole and request.keep_alive and not self._connection.lost and dropped <= DRAIN_MAX:
                dropped += sum(map(len, self._pieces))
                self._pieces.clear()
                self._more()
        except OSError:
            pass
        self._pieces.clear()
        if not self.whole:
            request.keep_alive = False

    def __str__(self) -> str:
        return "the body of a request"
