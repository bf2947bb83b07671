"""Requests and connections as applications get them: they may hang attributes of their own on both (Kore 4).

Compiled classes have no ``__dict__`` (``gkore.compiled``), their subclasses here have one.
"""

from __future__ import annotations

from gkore.worker.connection import Connection
from gkore.worker.request import Request


class OpenRequest(Request):
    """A request, and whatever the application adds to it."""


class OpenConnection(Connection):
    """A connection, and whatever the application adds to it."""
