"""``kore.sendobj``: Python objects from worker to worker.

They travel as pickles, which only workers open: the master relays them unread. Workers trust each other, they run the
same code as the same user. Every object gets a task of its own, begun in the order of arrival.
"""

from __future__ import annotations

import pickle
from collections.abc import Coroutine
from typing import Any

from gkore.conf.application import current
from gkore.conf.site import Function
from gkore.protocol.bus import EVERYBODY, Envelope, Kind
from gkore.worker import bus, failures
from gkore.worker.bridge import Pool, run


def send(thing: Any, worker: int | None = None) -> None:
    """Pickle ``thing`` and send it to one worker or to all, this one included; waits while the bus is full.

    RuntimeError in the parent and for a number that is no worker's; what pickle raises; ValueError when the pickle is
    over PAYLOAD_MAX. In Kore a call in the parent crashes, and two numbers too many are taken.
    """
    end = bus.end()
    if end is None:
        raise RuntimeError("kore.sendobj: there is nobody to send to, this is no worker")
    if worker is not None and not 1 <= worker <= current().settings.workers:
        raise RuntimeError(f"worker {worker} invalid")
    end.send(Kind.OBJECT, EVERYBODY if worker is None else worker, pickle.dumps(thing, pickle.HIGHEST_PROTOCOL))


class Inbox:
    """Hands what arrives to the application's ``koreapp.onmsg``."""

    def __init__(self, hook: Function) -> None:
        self._hook = hook
        self._pool = Pool(2**31)

    def heard(self, envelope: Envelope) -> None:
        """Take an object from the bus."""
        thing = pickle.loads(envelope.payload)
        try:
            task = self._pool.take()
        except IndexError:
            task = self._pool.make()
        task.switch(lambda: self._serve(thing))

    def _serve(self, thing: Any) -> None:
        try:
            result = self._hook(thing)
            if isinstance(result, Coroutine):
                run(result)
        except BaseException as failure:
            failures.report("koreapp.onmsg", failure)
