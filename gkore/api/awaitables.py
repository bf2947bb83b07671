"""What a handler may await."""

from __future__ import annotations

from typing import Any

from gkore.worker import database, tasks
from gkore.worker.aio import Aio
from gkore.worker.curl import Handle, option
from gkore.worker.httpclient import Client
from gkore.worker.listen import Listener
from gkore.worker.locks import Lock
from gkore.worker.processes import Proc
from gkore.worker.queues import Queue
from gkore.worker.sockets import Socket, wrap
from gkore.worker.threads import Thread
from gkore.worker.waits import Suspend

lock = Lock
queue = Queue
proc = Proc
socket_wrap = wrap
thread = Thread
aio = Aio
httpclient = Client
curl = Handle
curlopt = option
dblisten = Listener

pylock = Lock
pyqueue = Queue
pyproc = Proc
pysocket = Socket
pyhttpclient = Client
pycurlhandle = Handle
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


def dbsetup(name: str, conninfo: str) -> bool:
    """Know a PostgreSQL database, a libpq connection string or URI, by a name, in this worker or, before fork, in all.

    A name that is known already keeps its first meaning.
    """
    return database.register(name, conninfo)


register_database = dbsetup
"""As it was called in Kore 3."""


def dbquery(
    db: str,
    query: str,
    *,
    params: list[str | bytes | None] | None = None,
    binary: bool = False,
    timeout: float = -1,
) -> database.Query:
    """Await it for the rows: a list of dicts of str as PostgreSQL writes them, or None for a statement without rows.

    NULL is "" (``pgsql_null none``: None). ``params`` are for ``$1``, ``$2``...: str, bytes for bytea, and None for
    NULL, which Kore has no way to say. ``binary=True`` gives bytea as bytes (Kore: all columns in binary). Ours:
    ``timeout`` in milliseconds, then the query is cancelled and TimeoutError raised. RuntimeError "pgsql error: ..."
    when there is no connection to be had, "failed to perform query: ..." with the server's text.
    """
    return database.query(db, query, params, binary, timeout)
