"""Waiting until a descriptor can be read or written."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

from gevent import get_hub

from gkore.worker import waits

READ, WRITE = 1, 2
CLOSED = "Bad file descriptor"

T = TypeVar("T")


class Readiness:
    """One direction of one descriptor. One task at a time: RuntimeError for a second.

    The watcher is made when it is first needed, so that what is wrapped in the parent works in its workers.
    """

    __slots__ = ("_descriptor", "_event", "_pending", "_switch", "_watcher", "busy", "closed")

    def __init__(self, descriptor: int, event: int) -> None:
        self._descriptor = descriptor
        self._event = event
        self._watcher: Any = None
        self._switch: Callable[[], Any] | None = None
        self._pending: Any = None
        self.busy = False
        self.closed = False

    def until(self, what: object, attempt: Callable[[], T], seconds: float | None) -> T:
        """``attempt`` again and again, as often as the descriptor is ready, until it does not raise BlockingIOError.

        OSError as ``attempt`` raises it, and EOFError when the descriptor was closed meanwhile; TimeoutError after
        ``seconds``, with ``waits.LATE`` as its text.
        """
        if self.busy:
            raise RuntimeError(f"only one {'recv' if self._event == READ else 'send'} operation can be done per socket")
        self.busy = True
        end = None if seconds is None else monotonic() + seconds
        try:
            while True:
                if self.closed:
                    raise EOFError
                try:
                    return attempt()
                except (BlockingIOError, InterruptedError):
                    pass
                self.wait(what, None if end is None else end - monotonic())
        finally:
            self.busy = False

    def wait(self, what: object, seconds: float | None = None) -> None:
        """Suspend until the descriptor is ready or closed by ``close``. TimeoutError after ``seconds``."""
        if self._watcher is None:
            self._watcher = get_hub().loop.io(self._descriptor, self._event)
        waits.wait(what, self._start, self._stop, seconds)

    def _start(self, switch: Callable[[], Any]) -> None:
        self._switch = switch
        self._watcher.start(switch)

    def _stop(self) -> None:
        self._switch = None
        self._watcher.stop()
        if self._pending is not None:
            self._pending.stop()

    def close(self) -> None:
        """Close the watcher and wake whoever waits; the descriptor itself is its owner's to close, after this."""
        if self.closed:
            return
        self.closed = True
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
        if self._switch is not None:
            self._pending = get_hub().loop.run_callback(self._switch)
