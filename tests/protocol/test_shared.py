"""Shared memory keeps its size: a worker that could shrink it would end the master by SIGBUS."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from gkore.protocol.counters import Counters
from gkore.protocol.latency import Label, Latency


@pytest.mark.parametrize("make", [lambda: Counters(2), lambda: Latency([Label("a", "/")])], ids=["counters", "latency"])
def test_nobody_changes_the_size(make: Callable[[], Counters | Latency]) -> None:
    descriptor = make().descriptor
    size = os.fstat(descriptor).st_size
    for other in (0, 2 * size):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, other)
    assert os.fstat(descriptor).st_size == size
