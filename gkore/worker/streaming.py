"""Bodies that come piece by piece: iterables, generators plain and async, files.

HTTP/1.1 gets the chunked coding, one chunk an item, each sent before the next item is asked for; HTTP/1.0 gets the bare
bytes and the end of the connection. What ``req.response`` was given is sent once the handler is done, as in Kore; a
file of known size goes out with its length, by sendfile.
A route's ``timeout`` bounds the wait for each piece, the first like any other, and not the whole: it ends what hangs
and lets flow what flows, as nginx's proxy_read_timeout does. How long a client may take to read is another limit.
An exception on the way ends the connection without the last chunk, so that the client can tell. When the client leaves,
GeneratorExit is raised where the generator waits, or it is closed.
"""

from __future__ import annotations

import io
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from gkore import log
from gkore.errors import ClientGone, Overtime
from gkore.protocol.response import BODILESS
from gkore.worker import bridge, failures
from gkore.worker.limits import Deadline

if TYPE_CHECKING:
    from gkore.worker.request import Request

HEAD = 32
FILE_PIECE = 65536
RESET = struct.pack("ii", 1, 0)


class Stream:
    """What ``req.response`` was given, until it is sent."""

    __slots__ = ("body", "encoder", "length", "offset", "status")

    def __init__(self, status: int, body: Any) -> None:
        """TypeError when ``body`` is nothing that can be sent."""
        self.status = status
        self.body = body
        self.encoder: Any = None
        """Compresses the pieces: has ``compress`` and ``flush``."""
        self.length: int | None = None
        """Of a file that can be sent as it is, from ``offset`` on."""
        self.offset = 0
        if hasattr(body, "read"):
            self._measure(body)
        elif isinstance(body, dict) or not (hasattr(body, "__aiter__") or isinstance(body, Iterable)):
            kind = body.__class__.__name__
            hint = "; json.dumps makes text of it" if isinstance(body, (dict, int, float, bool)) else ""
            raise TypeError(f"a response body is bytes, str, None, an iterable of these or a file, not {kind}{hint}")

    def _measure(self, file: Any) -> None:
        if isinstance(file, io.TextIOBase):
            return
        try:
            found = os.fstat(file.fileno())
            offset = file.tell()
        except (OSError, ValueError, AttributeError):
            return
        if stat.S_ISREG(found.st_mode):
            self.offset = offset
            self.length = max(0, found.st_size - offset)


def send(request: Request, stream: Stream) -> None:
    """Send all of ``stream`` as the answer to ``request``; never raises for what the body does."""
    line, connection = request.line, request.connection
    bodiless = line.method == HEAD or stream.status in BODILESS or stream.status < 200
    chunked = stream.length is None and line.minor == 1
    if stream.length is None and not chunked:
        request.keep_alive = False
    try:
        head = request.start(stream.status, framing(stream, chunked))
        request.status = stream.status
        bridge.run(pump(request, stream, head, None if bodiless else chunked))
    except ClientGone:
        pass
    except GeneratorExit:
        if not connection.lost:
            raise
    except BaseException as failure:
        cut(request, failure)


def framing(stream: Stream, chunked: bool) -> bytes:
    if stream.status in BODILESS or stream.status < 200:
        return b""
    if stream.length is not None:
        return b"content-length: %d\r\n" % stream.length
    return b"transfer-encoding: chunked\r\n" if chunked else b""


def cut(request: Request, failure: BaseException) -> None:
    """The body failed when its head was on its way: the client must not take what it got for the whole."""
    where = f"the body of {request.line.path} ({request.action.name})"
    if isinstance(failure, Overtime):
        log.error(
            f"{where} was cut off after {request.sent} bytes: its next piece took longer than the route's timeout"
        )
    else:
        failures.report(where, failure)
    connection = request.connection
    if not request.line.minor:
        with suppress(OSError):  # where the end of the connection is the end of the body, only a reset tells
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.lost = True
    request.status = request.status or 500


async def pump(request: Request, stream: Stream, head: bytes, chunked: bool | None) -> None:
    """Head and pieces onto the connection; ``chunked`` None: the head only. ClientGone when the client left.

    A coroutine, because the client's leaving ends those.
    """
    connection = request.connection
    plan = request.action.plan
    seconds = plan.timeout if plan is not None else 0.0
    try:
        if not connection.put(head):
            raise ClientGone
        if chunked is None:
            return
        if stream.length is not None:
            send_whole(request, stream, stream.length)
            return
        async for piece in paced(encoded(stream), seconds) if seconds else encoded(stream):
            request.sent += len(piece)
            if chunked:
                piece = b"%x\r\n%b\r\n" % (len(piece), piece)
            if not connection.put(piece):
                raise ClientGone
        if chunked and not connection.put(b"0\r\n\r\n"):
            raise ClientGone
    finally:
        with Deadline(seconds) if seconds else nullcontext():
            await close(stream.body)


async def paced(pieces: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """``pieces``, each within ``seconds``. Overtime."""
    while True:
        with Deadline(seconds):
            piece = await anext(pieces, None)
        if piece is None:
            return
        yield piece


def send_whole(request: Request, stream: Stream, length: int) -> None:
    sent = request.connection.send_file(stream.body.fileno(), stream.offset, length)
    request.sent = sent
    if request.connection.lost:
        raise ClientGone
    if sent < length:
        raise EOFError(f"the file ended {length - sent} bytes early")


async def encoded(stream: Stream) -> AsyncIterator[bytes]:
    """The pieces as bytes, empty ones left out, compressed where that was agreed; each is whole for the client."""
    encoder = stream.encoder
    async for piece in octets(stream.body):
        ready = encoder(piece) if encoder is not None else piece
        if ready:
            yield ready
    if encoder is not None:
        yield encoder(None)


async def octets(body: Any) -> AsyncIterator[bytes]:
    if hasattr(body, "__aiter__"):
        async for item in body:
            yield octet(item)
    else:
        for item in read_pieces(body) if hasattr(body, "read") else body:
            yield octet(item)


def octet(item: Any) -> bytes:
    if item.__class__ is bytes:
        return item
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, (bytes, bytearray, memoryview)):
        return bytes(item)
    raise TypeError(f"an item of a response body is bytes or str, not {item.__class__.__name__}")


def read_pieces(file: Any) -> Iterator[Any]:
    while piece := file.read(FILE_PIECE):
        yield piece


async def close(body: Any) -> None:
    """Let a generator or file go: it may have something to clean up."""
    if hasattr(body, "aclose"):
        await body.aclose()
    elif hasattr(body, "close"):
        body.close()
