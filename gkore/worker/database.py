"""``req.pgsql`` and ``kore.dbquery``: databases by name, a pool of connections for each, in each worker.

Connections are opened when they are needed, by the worker, and kept. Who finds all of them busy waits in line; a place
that becomes free, with its connection or without, belongs to the first in line at once. A task that is ended in the
middle of a query has it cancelled, and its connection comes back when it is at rest.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

from gkore.conf.application import current
from gkore.worker import failures, tasks
from gkore.worker.postgres import Link, Rows, connect
from gkore.worker.waits import Awaitable, Waiter, limit

_databases: dict[str, Database] = {}


class Database:
    """A name, where it connects to, and the connections of this worker."""

    def __init__(self, name: str, dsn: str) -> None:
        self.name = name
        self.dsn = dsn
        self._idle: list[Link] = []
        self._line: OrderedDict[Waiter, None] = OrderedDict()
        self._open = 0

    def ask(self, query: Query) -> Rows:
        link = self._take(query)
        try:
            found = link.ask(query.sql, query.values, query.binary, query.seconds)
        except Exception as failure:
            if isinstance(failure, TimeoutError):
                self._rescue(link)
            else:
                self._give_back(link)
            raise
        except BaseException:
            self._rescue(link)
            raise
        self._give_back(link)
        return found

    def _take(self, query: Query) -> Link:
        """A connection of our own. RuntimeError "pgsql error: ..." when there is none to be had."""
        while self._idle:
            link = self._idle.pop()
            if not link.closed:
                return link
            self._drop(link)
        settings = current().settings
        if not settings.pgsql_conn_max or self._open < settings.pgsql_conn_max:
            self._open += 1
            return self._connect()
        if len(self._line) >= settings.pgsql_queue_limit:
            text = f"{len(self._line)} queries wait for one of {self._open} already (pgsql_queue_limit)"
            raise RuntimeError(f"pgsql error: no available connection: {text}")
        return self._wait_in_line(query)

    def _wait_in_line(self, query: Query) -> Link:
        waiter = Waiter()
        self._line[waiter] = None
        try:
            link: Link | None = waiter.wait(query, query.seconds)
        except BaseException:
            if not waiter.woken:
                del self._line[waiter]
            elif waiter.value is None:
                self._free_place()
            else:
                self._give_back(waiter.value)
            raise
        return self._connect() if link is None else link

    def _connect(self) -> Link:
        """A new connection, in a place that is ours already."""
        try:
            return connect(self.dsn, self._lost)
        except BaseException:
            self._free_place()
            raise

    def _give_back(self, link: Link) -> None:
        if link.closed:
            self._drop(link)
        elif self._line:
            self._line.popitem(last=False)[0].wake(link)
        else:
            self._idle.append(link)

    def _drop(self, link: Link) -> None:
        link.close()
        self._free_place()

    def _free_place(self) -> None:
        if self._line:
            self._line.popitem(last=False)[0].wake(None)
        else:
            self._open -= 1

    def _lost(self, link: Link) -> None:
        """An idle connection has ended."""
        if link in self._idle:
            self._idle.remove(link)
            self._drop(link)

    def _rescue(self, link: Link) -> None:
        tasks.spawn(partial(self._bring_to_rest, link))

    def _bring_to_rest(self, link: Link) -> None:
        try:
            at_rest = link.rest()
        except Exception as failure:
            failures.report(f"cancelling a query of {self.name}", failure)
            at_rest = False
        if at_rest:
            self._give_back(link)
        else:
            self._drop(link)


class Query(Awaitable):
    """A query, run when it is awaited."""

    __slots__ = ("binary", "database", "seconds", "sql", "values")

    def __init__(self, database: Database, sql: str, values: list[Any], binary: bool, seconds: float | None) -> None:
        self.database = database
        self.sql = sql
        self.values = values
        self.binary = binary
        self.seconds = seconds

    def wait(self) -> Rows:
        found = self.database.ask(self)
        if found is not None and current().settings.pgsql_null == "empty":
            for row in found:
                if None in row.values():
                    for name, value in row.items():
                        row[name] = "" if value is None else value
        return found

    def __str__(self) -> str:
        return f"database {self.database.name}"


def register(name: str, dsn: str) -> bool:
    """Know a database by name; a name that is known already keeps its first meaning, as in Kore."""
    current().databases.add(name)
    _databases.setdefault(name, Database(name, dsn))
    return True


def find(name: str) -> Database:
    """RuntimeError "pgsql error: no database found"."""
    try:
        return _databases[name]
    except KeyError:
        raise RuntimeError(f"pgsql error: no database found called {name!r}") from None


def query(name: str, sql: str, params: list[str | bytes | None] | None, binary: bool, timeout: float) -> Query:
    """A query that can be awaited; what is wrong with its arguments is said in Kore's words, at once."""
    if params is not None and not isinstance(params, list):
        raise RuntimeError("pgsql: params keyword must be a list")
    if not isinstance(binary, bool):
        raise RuntimeError("pgsql: binary not True or False")
    for place, value in enumerate(params or ()):
        if value is not None and not isinstance(value, (str, bytes)):
            raise RuntimeError(f"pgsql: item {place} is not a string or bytes")
    return Query(find(name), sql, params or [], binary, limit(timeout))
