"""One connection to PostgreSQL, waited for on the hub.

psycopg2's asynchronous mode, not its wait callback: a task that is ended in the middle of a query leaves a connection
that can still be brought to rest, where psycopg2 would close it and leave the query to run on.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import psycopg2
from gevent import Timeout, get_hub
from gevent.threadpool import ThreadPool
from psycopg2 import extensions

from gkore.protocol import placeholders
from gkore.worker import waits
from gkore.worker.readiness import READ, WRITE, Readiness

CONNECT_TIME = 10.0
"""Seconds to connect, unless the connection string has a connect_timeout, which libpq minds only when it blocks."""
CANCEL_TIMES = (0.25, 0.75, 2.0, 7.0)
"""Seconds for a query to be cancelled and to end, after each of which it is told again; then the connection is closed.
PostgreSQL passes over a cancellation that overtakes its query: that would run to its end, closed connection or not."""
REST_TIME = 10.0
"""Seconds for a ROLLBACK."""
IDLE = extensions.TRANSACTION_STATUS_IDLE
FAILED = extensions.TRANSACTION_STATUS_INERROR
ENDED = extensions.POLL_OK
BYTEA = 17
COPY = "pgsql error: COPY from or to the client is not supported"

_TEXT = extensions.new_type(tuple(extensions.string_types), "KORE_TEXT", extensions.UNICODE)


class Link:
    """A connection: asked by one task at a time, watched while it is idle."""

    __slots__ = ("_connection", "_cursor", "_lost", "_switch", "_watcher", "_what", "_writable", "dirty")

    def __init__(self, connection: Any, lost: Callable[[Link], object]) -> None:
        self._connection = connection
        self._cursor: Any = None
        self._lost = lost
        self._switch: Callable[[], Any] | None = None
        self._what = f"PostgreSQL, process {connection.info.backend_pid}"
        self._writable = Readiness(connection.fileno(), WRITE)
        self._watcher: Any = get_hub().loop.io(connection.fileno(), READ)
        self._watcher.start(self._readable)
        self.dirty = False
        """A transaction was left open by one who was ended, or has failed: ROLLBACK comes before the next query."""

    @property
    def closed(self) -> bool:
        return bool(self._connection.closed)

    def close(self) -> None:
        self._writable.close()
        self._watcher.stop()
        self._watcher.close()
        self._connection.close()

    # Asking

    def ask(self, sql: str, values: Sequence[str | bytes | None], binary: bool, seconds: float | None = None) -> Rows:
        """Run ``sql``. RuntimeError "failed to perform query: ..." with the server's text; TimeoutError when late."""
        if placeholders.is_copy(sql):
            raise RuntimeError(COPY)
        try:
            if self.dirty:
                self._run(b"ROLLBACK", REST_TIME)
                self.dirty = False
            cursor = self._run(self._filled(sql, values) if values else sql, seconds)
            self.dirty = self._connection.get_transaction_status() == FAILED
            return rows(cursor, binary)
        except psycopg2.ProgrammingError as failure:
            if failure.pgcode is None and "COPY" in str(failure):
                self._connection.close()  # in the middle of it: nothing else can be said on this connection
                raise RuntimeError(COPY) from None
            raise self._failed(failure) from None
        except (psycopg2.Error, LookupError, ValueError) as failure:
            raise self._failed(failure) from None

    def _failed(self, failure: Exception) -> RuntimeError:
        self.dirty = not self.closed and self._connection.get_transaction_status() != IDLE
        return RuntimeError(f"failed to perform query: {str(failure).strip()}")

    def _filled(self, sql: str, values: Sequence[str | bytes | None]) -> bytes:
        if self._connection.get_parameter_status("standard_conforming_strings") != "on":
            raise ValueError("parameters need standard_conforming_strings to be on")
        return placeholders.fill(sql, [self._literal(value) for value in values])

    def _literal(self, value: str | bytes | None) -> bytes:
        if value is None:
            return b"NULL"
        quoted: Any = extensions.QuotedString(value) if isinstance(value, str) else extensions.Binary(value)
        quoted.prepare(self._connection)
        return bytes(quoted.getquoted())

    def _run(self, sql: str | bytes, seconds: float | None) -> Any:
        self._cursor = cursor = self._connection.cursor()  # psycopg2 needs it to the end of the query, whoever is ended
        cursor.execute(sql)
        self._finish(seconds)
        return cursor

    def _finish(self, seconds: float | None) -> None:
        """Wait until the running query is over. psycopg2.Error when it fails."""
        poll = self._connection.poll
        end = None if seconds is None else monotonic() + seconds
        while (state := poll()) != ENDED:
            left = None if end is None else end - monotonic()
            if state == extensions.POLL_WRITE:
                self._writable.wait(self._what, left)
            else:
                waits.wait(self._what, self._start, self._stop, left)

    def _start(self, switch: Callable[[], Any]) -> None:
        self._switch = switch
        if not self._watcher.active:
            self._watcher.start(self._readable)

    def _stop(self) -> None:
        self._switch = None

    def _readable(self) -> None:
        """On the hub: an answer, or what comes unasked, a notice or the end."""
        if self._switch is not None:
            self._switch()
            return
        if self._connection.isexecuting():
            self._watcher.stop()  # its task will look when it waits for it
            return
        try:
            self._connection.poll()
        except psycopg2.Error:
            self._connection.close()
        if self.closed:
            self._watcher.stop()
            self._lost(self)

    def next_payload(self, what: object) -> str:
        """What the next NOTIFY says. RuntimeError "pgsql error: ..." when the connection ends."""
        notifies = self._connection.notifies
        try:
            while not notifies:
                if self.closed:
                    raise RuntimeError("pgsql error: the connection was lost")
                waits.wait(what, self._start, self._stop)
                self._connection.poll()
        except psycopg2.Error as failure:
            raise RuntimeError(f"pgsql error: {str(failure).strip()}") from None
        return str(notifies.pop(0).payload)

    # Coming to rest

    def rest(self) -> bool:
        """Cancel what is running and wait for its end; False when the connection is of no use any more."""
        for seconds in CANCEL_TIMES:
            end = monotonic() + seconds
            try:
                if self._connection.isexecuting():
                    cancel(self._connection, seconds)
                    self._finish(end - monotonic())
                break
            except psycopg2.Error:
                break  # that it was cancelled
            except TimeoutError:
                pass
        if self.closed or self._connection.isexecuting():
            return False
        self.dirty = self._connection.get_transaction_status() != IDLE
        return True


_libpq = ctypes.CDLL(psycopg2._psycopg.__file__)  # what it is linked with is found there, too
_libpq.PQgetCancel.restype = ctypes.c_void_p
_libpq.PQgetCancel.argtypes = _libpq.PQfreeCancel.argtypes = [ctypes.c_void_p]
_libpq.PQcancel.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
_threads: list[ThreadPool] = []
CANCELLERS = 4
"""At most so many at once, in a worker; a server that does not answer can't take the threads of ``kore.thread``."""


def cancel(connection: Any, seconds: float) -> None:
    """Ask the server to cancel what ``connection`` runs; waits for its answer, at most so long.

    libpq connects, says so and waits, all of it blocking, so on a thread; psycopg2's ``cancel`` keeps Python's lock
    meanwhile, and with a server that does not answer the whole worker would stop.
    """
    if not _threads:
        _threads.append(ThreadPool(CANCELLERS))
    handle = _libpq.PQgetCancel(connection.pgconn_ptr)
    begun: Any = None
    limit = Timeout.start_new(seconds)
    try:
        begun = _threads[0].spawn(_cancel, handle)
        begun.get()
    except Timeout as late:
        if late is not limit:
            raise
    finally:
        limit.close()
        if begun is None:
            _libpq.PQfreeCancel(handle)


def _cancel(handle: int) -> None:
    _libpq.PQcancel(handle, ctypes.create_string_buffer(256), 256)
    _libpq.PQfreeCancel(handle)


Rows = list[dict[str, Any]] | None


def rows(cursor: Any, binary: bool) -> Rows:
    """Dicts of text by column, None for NULL; None for a statement without rows. With ``binary`` bytea is bytes."""
    description = cursor.description
    if description is None:
        return None
    names = [column.name for column in description]
    found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    if binary:
        for name in {column.name for column in description if column.type_code == BYTEA}:
            for row in found:
                row[name] = None if row[name] is None else bytes.fromhex(row[name][2:])
    return found


def connect(dsn: str, lost: Callable[[Link], object]) -> Link:
    """A new connection. RuntimeError "pgsql error: ..." with libpq's text, or when it takes too long.

    ``lost(link)`` is called on the hub when it ends while it is idle.
    """
    try:
        words = extensions.parse_dsn(dsn)
        end = monotonic() + (float(words.get("connect_timeout") or 0) or CONNECT_TIME)
        extra: dict[str, Any] = {"client_encoding": words.get("client_encoding", "UTF8"), **resolved(words)}
        connection = psycopg2.connect(dsn, async_=True, **extra)
    except (psycopg2.Error, ValueError, OSError) as failure:
        raise RuntimeError(f"pgsql error: {str(failure).strip()}") from None
    try:
        while (state := connection.poll()) != ENDED:
            ready = Readiness(connection.fileno(), READ if state == extensions.POLL_READ else WRITE)
            try:
                ready.wait("a connection to PostgreSQL", end - monotonic())
            finally:
                ready.close()
    except TimeoutError:
        connection.close()
        raise RuntimeError("pgsql error: the server did not answer in time") from None
    except psycopg2.Error as failure:
        connection.close()
        raise RuntimeError(f"pgsql error: {str(failure).strip()}") from None
    except BaseException:
        connection.close()
        raise
    extensions.register_type(_TEXT, connection)
    return Link(connection, lost)


def resolved(words: dict[str, str]) -> dict[str, str]:
    """The address of the host that is named: libpq would block while it asks. OSError when it has none."""
    host = words.get("host") or os.environ.get("PGHOST", "")
    if not host or host.startswith(("/", "@")) or "," in host or "hostaddr" in words:
        return {}
    found = get_hub().resolver.getaddrinfo(host, 0, socket.AF_UNSPEC, socket.SOCK_STREAM)
    return {"hostaddr": str(found[0][4][0])}
