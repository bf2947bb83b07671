"""Requests that are served before they are whole: for on_headers, on_body_chunk, and WSGI applications."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gkore.errors import ProtocolError
from gkore.worker.dispatch import dispatch, failed, unanswered
from gkore.worker.inflow import Inflow

if TYPE_CHECKING:
    from gkore.worker.bridge import Task
    from gkore.worker.connection import Connection
    from gkore.worker.request import Request


class Preview:
    """A connection's place in the queue when its request is not whole, but its route wants to see it already."""

    __slots__ = ("_connection", "_request", "task")

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection = connection
        self._request = request
        self.task: Task | None = None

    def serve(self) -> None:
        """Show it, unless it has become whole, or its client has left, or somebody is at it."""
        connection, request = self._connection, self._request
        parser = connection.parser
        if connection.task is None and parser is not None and parser.head is request:
            connection.task = self.task
            if request.streamed:
                stream(connection, request)
            else:
                connection.preview(request)

    def refuse(self, refusal: ProtocolError) -> None:
        self._connection.refuse(refusal)


def stream(connection: Connection, request: Request) -> None:
    """On a task: let a WSGI application answer while it reads the body, then go on with what follows."""
    parser = connection.parser
    assert parser is not None
    connection.watcher.stop()
    connection.service.fleet.requests += 1
    inflow = request.inflow = Inflow(request)
    try:
        dispatch(request)
        if not request.status:
            unanswered(request)
    except BaseException as failure:
        failed(request, failure)
    inflow.settle()
    task = connection.task
    if task is not None and task._ident:
        task.forget()
    connection.batch = parser.complete  # this one, when all of it was read, and those behind it
    if connection.lost or not request.keep_alive:
        connection.refusal = None
        connection.leave()
        return
    del parser.complete[0]
    connection.serve()
