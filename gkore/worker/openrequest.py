"""Requests as applications get them: with room for attributes of their own (Kore 4).

Compiled classes have no ``__dict__`` (``gkore.compiled``), their subclasses here have one.
"""

from __future__ import annotations

from gkore.worker.filtered import FilteredRequest, LoggedRequest
from gkore.worker.request import Request


class OpenRequest(Request):
    """A request, and whatever the application adds to it."""


class OpenLoggedRequest(LoggedRequest):
    """The same, where there is an access log."""


class OpenFilteredRequest(FilteredRequest):
    """The same, where answers are compressed."""
