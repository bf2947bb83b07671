"""``kore.timer``: a function called after a while, or every so often, each time on a task of its own."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from gevent import get_hub

from gkore.worker import bridge, failures, tasks

SHORTEST = 0.001
"""Seconds between two calls of an interval timer of 0 ms: libev takes a repeat of 0 for a one-shot timer."""


class Timer:
    """A timer of this worker (``kore.timer``); it runs whether or not somebody keeps the object, until ``close``.

    A call that is still running when the next one is due is not overtaken: that turn is skipped.
    """

    __slots__ = ("_arguments", "_callback", "_closed", "_running", "_watcher")

    def __init__(self, callback: Callable[..., Any], milliseconds: float, oneshot: bool, *arguments: Any) -> None:
        self._callback = callback
        self._arguments = arguments
        self._running = self._closed = False
        seconds = milliseconds / 1000.0
        self._watcher: Any = get_hub().loop.timer(seconds, 0.0 if oneshot else max(seconds, SHORTEST))
        self._watcher.start(self._due, update=True)  # from now, not from when the loop last looked at the clock

    def close(self) -> bool:
        """Stop; a call that has begun ends in its own time, and a second close does nothing."""
        self._closed = True
        self._watcher.stop()
        self._watcher.close()
        return True

    def _due(self) -> None:
        if not self._running:
            self._running = True
            tasks.spawn(self._run)

    def _run(self) -> None:
        if self._closed:
            return  # between the moment that it was due and now
        try:
            result = self._callback(*self._arguments)
            if isinstance(result, Coroutine):
                bridge.run(result)
        except BaseException as failure:
            failures.report(f"timer {getattr(self._callback, '__name__', self._callback)}", failure)
        finally:
            self._running = False
