"""Connections as applications get them: with room for attributes of their own (Kore 4).

Compiled classes have no ``__dict__`` (``gkore.compiled``), their subclasses here have one. Of requests it is the same:
``filtered.PlainRequest`` and its kin.
"""

from __future__ import annotations

from gkore.worker.connection import Connection


class OpenConnection(Connection):
    """A connection, and whatever the application adds to it."""
