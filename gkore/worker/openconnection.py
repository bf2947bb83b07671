"""Connections as applications get them: with room for attributes of their own (Kore 4).

Compiled classes have no ``__dict__`` (``gkore.compiled``), their subclass here has one; so it is with requests.
"""

from __future__ import annotations

from gkore.worker.connection import Connection


class OpenConnection(Connection):
    """A connection, and whatever the application adds to it."""
