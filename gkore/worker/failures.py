"""What happens to exceptions of the user's code: the tracer when there is one, else the log with the traceback.

They never travel further: no handler, validator, callback or task ends a worker, except by saying so (``kore.fatal``).
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from gkore import log

if TYPE_CHECKING:
    from gkore.worker.request import Request

Tracer = Callable[[type[BaseException], BaseException, TracebackType | None], object]

_tracer: Tracer | None = None
witness: Callable[[str, BaseException], object] | None = None
"""Told of every failure besides: a test that wants to raise it."""


def hide(request: Request, failure: BaseException) -> None:
    """What a client is shown of a failure: nothing but that there was one."""
    request.fail(500)


show: Callable[[Request, BaseException], None] = hide
"""The answer to a request whose handler raised; ``deployment dev`` has one that says more."""


def set_tracer(tracer: Tracer) -> None:
    """Hand every uncaught exception to ``tracer(type, value, traceback)``. RuntimeError for a second or no callable."""
    global _tracer
    if not callable(tracer):
        raise RuntimeError(f"kore.tracer: object not callable: {tracer!r}")
    if _tracer is not None:
        raise RuntimeError("kore.tracer: tracer already set, and there is one for all")
    _tracer = tracer


def forget_tracer() -> None:
    """Be without a tracer again: when one process holds several applications, one after the other."""
    global _tracer
    _tracer = None


def report(where: str, failure: BaseException) -> None:
    """Tell the tracer about ``failure``, or log it; an exception inside the tracer is logged beside it."""
    if witness is not None:
        witness(where, failure)
    if _tracer is None:
        log.exception(f"uncaught exception {failure!r} in {where}", failure)
        return
    try:
        _tracer(type(failure), failure, failure.__traceback__)
    except Exception as second:
        log.exception(f"uncaught exception {failure!r} in {where}", failure)
        log.exception(f"the tracer itself raised {second!r}", second)
