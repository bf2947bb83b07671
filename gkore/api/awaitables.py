"""What a handler may await."""

from __future__ import annotations

from typing import Any

from gkore.worker import tasks
from gkore.worker.bridge import Suspend
from gkore.worker.locks import Lock
from gkore.worker.processes import Proc
from gkore.worker.queues import Queue
from gkore.worker.sockets import Socket, wrap

lock = Lock
queue = Queue
proc = Proc
socket_wrap = wrap

pylock, pyqueue, pyproc, pysocket = Lock, Queue, Proc, Socket
"""The types, under the names that Kore's C code gives them."""


def suspend(milliseconds: float) -> Suspend:
    """Suspend the running coroutine for that many milliseconds; 0 and less let the others run once."""
    return Suspend(milliseconds)


def gather(*coroutines: Any, concurrency: int = 0) -> tasks.Results:
    """Run all coroutines, at most ``concurrency`` at a time (0: all at once), and give their results in a list.

    Results come in the order of the arguments (Kore: of completion); an exception is the result of its coroutine. It
    waits by itself, so it works with and without await. RuntimeError outside of coroutines, TypeError for functions.
    """
    if not isinstance(concurrency, int):
        raise TypeError("concurrency level must be an integer")
    return tasks.gather(coroutines, max(0, concurrency))
