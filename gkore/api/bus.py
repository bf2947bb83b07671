"""``kore.sendobj``."""

from __future__ import annotations

from typing import Any

from gkore.worker import objects


def sendobj(obj: Any, worker: int | None = None) -> None:
    """Hand a copy of ``obj`` to koreapp.onmsg of one worker, or of all, this one included (Kore 4).

    RuntimeError ``worker N invalid``, and in the parent; what pickle raises for objects that can't travel.
    """
    objects.send(obj, worker)
