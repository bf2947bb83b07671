"""``kore.sigtrap``: signals of the application's own, handed to its hook (``koreapp.signal``, ``kore_worker_signal``).

A signal that is trapped in the parent, before fork, is trapped by every worker.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from gevent import get_hub

OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)
"""The worker acts on these itself, and tells the hook of them in any case."""
UNTRAPPABLE = (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD)

_wanted: set[int] = set()
_tell: list[Callable[[int], object]] = []
_watchers: dict[int, Any] = {}


def trap(number: int) -> None:
    """Tell the hook of a signal from now on. ValueError when it can't be caught; SIGCHLD is kore.proc's."""
    if number not in signal.valid_signals() or number in UNTRAPPABLE:
        raise ValueError(f"kore.sigtrap: signal {number} can't be trapped")
    _wanted.add(number)
    if _tell:
        _watch(number)


def begin(tell: Callable[[int], object]) -> None:
    """This process is a worker: ``tell(number)`` is called on the hub for each signal that is trapped."""
    _tell.append(tell)
    for number in _wanted:
        _watch(number)


def _watch(number: int) -> None:
    if number not in OURS and number not in _watchers:
        watcher = _watchers[number] = get_hub().loop.signal(number)
        watcher.start(_tell[0], number)
