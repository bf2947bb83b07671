"""Coroutines on real tasks of this process's hub."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import gevent
import pytest
from coroutines import Complete

from gkore.worker import tasks


@pytest.fixture
def complete() -> Complete:
    """Runs a coroutine on a task and gives its result, or raises what it raised."""

    def complete(coroutine: Coroutine[Any, Any, Any]) -> Any:
        outcome = gevent.event.AsyncResult()
        tasks.Job(coroutine, lambda result, failure: outcome.set((result, failure))).start()
        try:
            result, failure = outcome.get(timeout=60)
        except gevent.Timeout:
            pytest.fail(f"{coroutine} hangs")
        if failure is not None:
            raise failure
        return result

    return complete


@pytest.fixture(autouse=True)
def begun() -> None:
    """Tasks start at once: this process counts as a worker that is configured."""
    tasks.begin()
