"""The fleet, handed from one program of the master to the next: pids stay its children through an ``exec``."""

from __future__ import annotations

import os
from typing import Any

from gkore.master.children import Child
from gkore.master.fleet import Fleet
from gkore.master.seats import Seat
from gkore.protocol.counters import Counters


def bequeath(fleet: Fleet) -> dict[str, Any]:
    """All that the next program must know of the workers, as plain data with descriptors."""
    return {
        "children": [child.bequeath() for child in fleet.children.values()],
        "counters": [fleet.nursery.counters.rows, fleet.nursery.counters.descriptor],
        "generation": fleet.generation,
        "restarts": fleet.restarts,
        "past": fleet.nursery.past,
        "keymgr": fleet.keymgr.bequeath(),
        "latencies": fleet.nursery.latencies.bequeath(),
    }


def inherit(fleet: Fleet, entry: dict[str, Any]) -> None:
    """Take over the workers of the program before: they serve until ours are READY."""
    rows, descriptor = entry["counters"]
    os.set_inheritable(descriptor, False)
    fleet.nursery.counters = Counters(rows, descriptor)
    fleet.restarts, fleet.nursery.past = entry["restarts"], entry["past"]
    fleet.nursery.latencies.inherit(entry.get("latencies", []))
    fleet.generation = entry["generation"] + 1
    fleet.children = {child.pid: child for child in map(Child.inherit, entry["children"])}
    fleet.keymgr.inherit(entry["keymgr"])
    fleet.started = True
    for number in range(1, max((child.slot for child in fleet.children.values()), default=0) + 1):
        fleet.seats.setdefault(number, Seat())
