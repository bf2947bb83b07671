"""Requests whose routes want to see them before they are whole: on_headers, on_body_chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gkore.errors import ProtocolError

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
        connection = self._connection
        parser = connection.parser
        if connection.task is None and parser is not None and parser.head is self._request:
            connection.task = self.task
            connection.preview(self._request)

    def refuse(self, refusal: ProtocolError) -> None:
        self._connection.refuse(refusal)
