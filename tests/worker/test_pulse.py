"""A worker's pulse: when it has served enough."""

from __future__ import annotations

import select
import socket
from types import SimpleNamespace

from gevent.event import Event

from gkore.protocol.bus import Kind, Opener
from gkore.protocol.slot import Slot
from gkore.worker.bus import BusEnd
from gkore.worker.observation import Observation
from gkore.worker.pulse import Pulse
from gkore.worker.service import Fleet


def worn_after(max_requests: int) -> int:
    """After how many requests a worker tells the master that it has served enough."""
    ours, theirs = socket.socketpair()
    gone = Event()
    fleet = Fleet(100)
    settings = SimpleNamespace(max_requests=max_requests, worker_rss_max=0)
    pulse = Pulse(fleet, Slot(1, [], ours), settings, BusEnd(1, ours, gone.set), Observation())
    while not select.select([theirs], [], [], 0)[0]:
        fleet.requests += 1
        for _ in range(4):
            pulse.beat()
    [envelope] = Opener().feed(theirs.recv(65536))
    theirs.close()
    assert gone.wait(30)
    ours.close()
    assert envelope.kind == Kind.WORN
    return fleet.requests


def test_workers_do_not_leave_all_at_once() -> None:
    worn = [worn_after(1000) for _ in range(30)]
    assert 900 <= min(worn) < max(worn) <= 1000
