"""What a handler may await."""

from __future__ import annotations

from gkore.worker.bridge import Suspend


def suspend(milliseconds: float) -> Suspend:
    """Suspend the running coroutine for that many milliseconds; 0 and less let the others run once."""
    return Suspend(milliseconds)
