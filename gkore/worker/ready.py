"""Connections that hold whole requests, and the task that serves them: once a turn of the hub, all in one go.

Switching into a task and back costs about 0.9 us, a quarter of what gkore itself spends on a small request. So reading
and serving are apart: while the hub goes through what epoll found, connections only queue; behind the last of them one
task is switched into and serves the queue to its end. A handler that waits gives the hub back with the queue unserved:
the next task goes on with it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from gevent import get_hub
from greenlet import getcurrent

from gkore import log
from gkore.errors import ProtocolError

if TYPE_CHECKING:
    from gkore.worker.bridge import Pool


CROWDED: Final = "{} requests are alive (http_request_limit): others get 503; `gkore dump` tells what they wait for"


class Client(Protocol):
    """Who can be queued: an HTTP connection with requests, a websocket with messages. ``serve`` never raises."""

    task: Any

    def serve(self) -> None: ...

    def refuse(self, refusal: ProtocolError) -> None: ...


class Ready:
    """The queue of one worker; never longer than the worker has connections."""

    __slots__ = ("_pool", "_run_callback", "queue")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.queue: deque[Client] = deque()
        self._run_callback: Any = get_hub().loop.run_callback

    def add(self, connection: Client) -> None:
        """Serve ``connection`` before the hub looks at its sockets again."""
        if not self.queue:
            self.begin()
        self.queue.append(connection)

    def begin(self) -> None:
        """The queue is empty, and its first client comes: who appends without ``add`` says so."""
        self._run_callback(self._pump)

    def _pump(self) -> None:
        """On the hub: tasks, until the queue is empty or too many of them wait."""
        queue = self.queue
        pool = self._pool
        while queue:
            try:
                task = pool.take()
            except IndexError:
                grown = pool.grow()
                if grown is None:
                    log.seldom("http_request_limit", CROWDED.format(pool.busy))
                    queue.popleft().refuse(ProtocolError(503, "http_request_limit is reached"))
                    continue
                task = grown
            task.switch(self._serve)

    def _serve(self) -> None:
        """On a task: serve the queue; whoever takes over when this task waits finds what is left."""
        queue = self.queue
        task: Any = getcurrent()
        while queue:
            connection = queue.popleft()
            connection.task = task
            connection.serve()
