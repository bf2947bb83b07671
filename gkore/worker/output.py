"""The writing half of a connection: what the kernel does not take at once, and pipelines gathered into one send.

Only the connection's task waits here; what the hub has to say is small and is dropped with the connection when it does
not fit. A reader that takes nothing for ``http_write_timeout`` seconds is cut off.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from gevent import get_hub
from greenlet import getcurrent

from gkore.compiled import mypyc_attr
from gkore.worker import waits

if TYPE_CHECKING:
    from gkore.worker.service import Clock

WRITE: Final = 2
FILE_TURN: Final = 2 * 1024 * 1024
"""Bytes of a file that are sent before others get their turn."""
CORKED_MAX: Final = 64
"""Responses gathered before they are sent: 64 of at most 16 KiB."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Output:
    """A socket that is written to in order."""

    __slots__ = ("clock", "closed", "lost", "out", "since", "sock", "writing")

    def __init__(self, sock: Any, clock: Clock) -> None:
        self.sock = sock
        self.clock = clock
        self.since = clock.now
        self.out: list[bytes] | None = None
        """Responses of a pipeline, gathered for one send; None when there is no pipeline."""
        self.writing = False
        self.lost = False
        """The peer is gone: nothing that is sent arrives."""
        self.closed = False

    def write(self, head: bytes, body: bytes) -> bool:
        """Send ``head`` and ``body`` without joining them; waits. False when the client is gone."""
        if self.out is not None:
            self.out += (head, body)
            return self.flush()
        try:
            sent: int = self.sock.sendmsg((head, body))
        except OSError as failure:
            return self.write_failed(failure, head + body)
        if sent == len(head) + len(body):
            return True
        if sent < len(head):
            return self.write_rest(memoryview(head)[sent:]) and self.write_rest(memoryview(body))
        return self.write_rest(memoryview(body)[sent - len(head) :])

    def put(self, data: bytes, more: bool = False) -> bool:
        """Send ``data``, waiting for a slow reader; ``more`` follows at once. False when the client is gone."""
        if self.out is not None:
            self.out.append(data)
            return self.flush()
        if self.lost:
            return False
        try:
            sent: int = self.sock.send(data, socket.MSG_MORE) if more else self.sock.send(data)
        except OSError as failure:
            return self.write_failed(failure, data)
        return sent == len(data) or self.write_rest(memoryview(data)[sent:])

    def send_file(self, descriptor: int, offset: int, count: int) -> int:
        """Send ``count`` bytes of a file from ``offset`` on; how many the file had and the client took."""
        end, turn = offset + count, 0
        begun = offset
        watcher = get_hub().loop.io(self.sock.fileno(), WRITE)
        self.writing = True
        self.since = self.clock.now
        try:
            while offset < end and not self.lost:
                try:
                    sent = os.sendfile(self.sock.fileno(), descriptor, offset, min(end - offset, FILE_TURN))
                except (BlockingIOError, InterruptedError):
                    turn = 0
                    waits.wait(self, watcher.start, watcher.stop)
                    continue
                if not sent:
                    break
                offset += sent
                turn += sent
                self.since = self.clock.now
                if turn >= FILE_TURN and offset < end:  # a reader as fast as we are must not keep the worker
                    turn = 0
                    waits.Suspend(0).wait()
        except OSError:
            self.lost = True
        finally:
            watcher.close()
            self.writing = False
        return offset - begun

    def write_failed(self, failure: OSError, data: bytes) -> bool:
        """A send took nothing: wait for room, or know that the client is gone."""
        if isinstance(failure, (BlockingIOError, InterruptedError)):
            return self.write_rest(memoryview(data))
        self.lost = True
        return False

    def write_rest(self, view: memoryview) -> bool:
        """Send all of ``view``, waiting for a slow reader. False when it is gone."""
        if self.lost:
            return False
        self.writing = True
        self.since = self.clock.now
        watcher = get_hub().loop.io(self.sock.fileno(), WRITE)
        try:
            while view:
                try:
                    sent: int = self.sock.send(view)
                except (BlockingIOError, InterruptedError):
                    waits.wait(self, watcher.start, watcher.stop)
                    continue
                view = view[sent:]
                self.since = self.clock.now
        except OSError:
            self.lost = True
        finally:
            watcher.close()
            self.writing = False
        return not self.lost

    def abort(self) -> None:
        """Cut off a reader that does not read: whoever waits to write to it is woken with an error."""
        self.lost = True
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    # Pipelines

    def cork(self) -> None:
        """Gather what is answered from now on, until the pipeline is answered or a handler waits."""
        self.out = []
        get_hub().loop.run_callback(self.flush)

    def flush(self) -> bool:
        """Send what was gathered; on the hub only what fits. False when the client is gone."""
        out = self.out
        if not out or self.writing or self.lost:
            return not self.lost
        data = b"".join(out)
        out.clear()
        try:
            sent: int = self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.lost = True
            return False
        if sent == len(data):
            return True
        if getcurrent() is get_hub():
            out.append(data[sent:])
            return True
        return self.write_rest(memoryview(data)[sent:])

    def uncork(self) -> None:
        self.flush()
        self.out = None
