"""How long handlers take, measured around them, where ``metrics`` is on; elsewhere nothing of this exists.

What runs for a request is two readings of the clock and an append (0.25 us); the counting is done at the beat, in C.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from functools import update_wrapper
from inspect import iscoroutinefunction
from time import perf_counter
from types import CoroutineType
from typing import Any

from gkore.conf.site import Function
from gkore.protocol.latency import BOUNDS, SUM


class Latency:
    """One route's."""

    __slots__ = ("_cells", "_seconds")

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells
        self._seconds: list[float] = []

    def fold(self) -> None:
        """Count what has come since the last time."""
        seconds, cells = self._seconds, self._cells
        if not seconds:
            return
        cells[SUM] += int(sum(seconds) * 1e9)
        seconds.sort()
        at = 0
        for number, bound in enumerate(BOUNDS):
            before, at = at, bisect_right(seconds, bound, at)
            if at > before:
                cells[number] += at - before
        cells[len(BOUNDS)] += len(seconds) - at
        seconds.clear()

    def measured(self, handler: Function, alone: bool) -> Function:
        """The handler, measured from its call to its end; what it leaves to be streamed is not in it.

        ``alone``: it gets the request and nothing else.
        """
        add = self._seconds.append
        if iscoroutinefunction(handler):
            return update_wrapper(_measured_coroutine(handler, add), handler)
        if not alone:
            return update_wrapper(_measured_with_groups(handler, add), handler)

        def measured(request: Any) -> Any:
            begun = perf_counter()
            try:
                result = handler(request)
            except BaseException:
                add(perf_counter() - begun)
                raise
            if result.__class__ is CoroutineType:
                return _rest(result, begun, add)
            add(perf_counter() - begun)
            return None

        return update_wrapper(measured, handler)


def _measured_coroutine(handler: Function, add: Callable[[float], object]) -> Function:
    async def measured(*arguments: Any) -> None:
        begun = perf_counter()
        try:
            await handler(*arguments)
        finally:
            add(perf_counter() - begun)

    return measured


def _measured_with_groups(handler: Function, add: Callable[[float], object]) -> Function:
    def measured(*arguments: Any) -> Any:
        begun = perf_counter()
        try:
            result = handler(*arguments)
        except BaseException:
            add(perf_counter() - begun)
            raise
        if result.__class__ is CoroutineType:
            return _rest(result, begun, add)
        add(perf_counter() - begun)
        return None

    return measured


async def _rest(coroutine: Any, begun: float, add: Callable[[float], object]) -> None:
    """A coroutine that a plain function has returned."""
    try:
        await coroutine
    finally:
        add(perf_counter() - begun)
