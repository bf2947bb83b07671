"""SIGHUP: everything is read again, without a request lost, and the pid stays.

1. A rehearsal: the same command with ``--check`` in a process that is thrown away. What fails there changes nothing.
2. This process becomes a new gkore (``exec``) that inherits listening sockets, workers, buses and counters.
3. The new program reads conf and code, forks its workers into the slots, and drains each old one when its successor in
   the slot is READY. Addresses that nobody declares any more are closed when the last old worker has left.

HAProxy's master-worker mode works so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from gkore import log
from gkore.master import notify, succession
from gkore.master.address import advice
from gkore.master.control import Control
from gkore.master.fleet import Fleet
from gkore.master.image import Image
from gkore.master.launch import Launch
from gkore.master.metrics import Metrics
from gkore.master.rehearsal import Rehearsal
from gkore.master.rotation import rotate
from gkore.protocol.slot import Exit

UNCHANGED = "reload failed, nothing has changed"
KEPT = "given up, the old workers serve on; mend what is wrong and reload"
HALF = "reload failed half way, the old workers serve on; those that die are not replaced until one succeeds"


class Reload:
    """At most one reload at a time; asked again meanwhile, a rehearsal that fails is repeated.

    One that succeeds needs no repetition: what is read then is what stands in the files then.
    """

    def __init__(self, fleet: Fleet, launch: Launch, image: Image, control: Control, metrics: Metrics) -> None:
        self._fleet = fleet
        self._launch = launch
        self._image = image
        self._control = control
        self._metrics = metrics
        self._rehearsal: Rehearsal | None = None
        self._again = False

    def begin(self) -> None:
        """Rehearse; ``tick`` does the rest."""
        if self._fleet.status is not None:
            self._control.answer(Exit.START, "the server is stopping")
            return
        if self._image.relief is not None:
            self._image.relief.ask()
            return
        if self._rehearsal is not None:
            self._again = True
            return
        log.notice("reload: trying the new conf and code aside")
        notify.reloading()
        rotate(self._fleet, self._launch.acme)
        try:
            held = [str(address.declared) for address in self._launch.listeners.all()]
            self._rehearsal = Rehearsal(self._image, held)
        except OSError as failure:
            self.failed(f"no process for it: {advice(failure)}")

    def tick(self) -> None:
        """Once a turn of the loop: is the rehearsal over?"""
        rehearsal = self._rehearsal
        if rehearsal is None or not rehearsal.over():
            return
        self._rehearsal = None
        again, self._again = self._again, False
        if rehearsal.failure is not None and again:
            self.begin()
        elif rehearsal.failure is not None:
            self.failed(rehearsal.failure)
        elif self._fleet.status is None:
            self._replace()

    def sources(self) -> Iterator[Rehearsal]:
        if self._rehearsal is not None:
            yield self._rehearsal

    def cancel(self) -> None:
        """Forget a rehearsal that goes on."""
        if self._rehearsal is not None:
            self._rehearsal.cancel()
            self._rehearsal = None

    def failed(self, why: str, said: str = "", outcome: str = UNCHANGED) -> None:
        """Say so everywhere; the old workers serve on. ``said`` is what the log has already: browsers get that."""
        self._fleet.refuse(said or why)
        log.error(f"{outcome}:\n{why}")
        notify.ready(f"{outcome}: {why.splitlines()[-1]}")
        self._control.answer(Exit.START, "\n".join(filter(None, (said, why, outcome))))

    def bequeath(self) -> dict[str, Any]:
        """All that the next program must know besides the workers."""
        return {
            "listeners": self._launch.listeners.bequeath(),
            "control": self._control.bequeath(),
            "metrics": self._metrics.bequeath(),
            "launch": self._launch.bequeath(),
            "acme": self._launch.acme.end(),
        }

    def _replace(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        heritage = {"fleet": succession.bequeath(self._fleet), **self.bequeath()}
        try:
            self._image.replace(heritage, list(descriptors(heritage)))
        except OSError as failure:
            self.failed(f"{' '.join(self._image.interpreter)}: {failure.strerror}")


def descriptors(heritage: object) -> Iterator[int]:
    """All descriptors that a heritage speaks of: the values of certain names."""
    if isinstance(heritage, list):
        for entry in heritage:
            yield from descriptors(entry)
    elif isinstance(heritage, dict):
        for name, value in heritage.items():
            if name == "descriptor" and value is not None:
                yield value
            elif name == "sockets":
                yield from value.values()
            elif name == "waiting":
                yield from value
            elif name == "counters":
                yield value[1]
            else:
                yield from descriptors(value)
