"""What the master hands to a worker at fork: its place in the fleet, and nothing else.

A slot outlives the workers that fill it: its listening sockets are made by the master, are kept open by it, and are
inherited by the worker in the slot and by that worker's successors (see DESIGN: a dying worker refuses nobody).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from gkore.conf.site import Bind, Server
from gkore.protocol.counters import Counters
from gkore.protocol.journal import Journal
from gkore.protocol.lastwords import LastWords
from gkore.protocol.latency import Latency


class Exit(IntEnum):
    """Exit statuses of gkore's processes; the master acts on a worker's, a shell or systemd on the master's."""

    OK = 0
    FATAL = 1
    """``kore.fatal`` or ``worker_death_policy terminate``: as Kore."""
    USAGE = 2
    START = 3
    """The conf, the application or the machine refuses."""
    BOOT = 4
    """A worker failed before it was ready: the master backs off and gives up after a few."""
    FATALX = 5
    """``kore.fatalx``: the master stops the whole server."""


@dataclass(slots=True)
class Listener:
    """One listening socket of a slot and the server whose domains answer on it."""

    server: Server
    bind: Bind
    sock: socket.socket


@dataclass(slots=True)
class Slot:
    """One worker's place: its number (from 1, as in Kore), its listeners, its end of the bus, its shared counters."""

    number: int
    listeners: list[Listener]
    bus: socket.socket
    counters: memoryview = field(default_factory=lambda: memoryview(bytearray(8 * 32)).cast("Q"))
    """This slot's row of 64-bit counters in memory shared with the master; see ``protocol.counters``."""
    fleet: Counters | None = None
    """The rows of all workers, to read."""
    journal: Journal | None = None
    """Where lines of access logs wait; None where there are no logs."""
    keys: Any = None
    """A channel to the key manager, when private keys are kept there."""
    memory: int | None = None
    """A descriptor of /proc/self/statm, opened while the worker can still see it."""
    latency: Latency | None = None
    """Where it counts how long handlers take; None when nobody wants to know."""
    challenges: socket.socket | None = None
    """Where connections go that want to see an answer to an ACME challenge; None when no domain has ``acme yes``."""
    words: LastWords | None = None
    """What it says when it crashes."""
    neighbours: dict[int, list[Listener]] = field(default_factory=dict)
    """What the other slots listen on: this worker may accept from there when it has fewer connections than they."""
