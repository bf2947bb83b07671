"""How long a run will take: what it says at the start, and before every workload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.load import Settings
from bench.servers import Server
from bench.workloads import Workload

START = 1.2
"""Seconds until a server is up and was probed, and stopped again."""
AROUND = 0.1
"""Seconds around each measurement: starting the load, reading what it counted."""
CONNECTING = 3.0
"""Seconds to open ten thousand connections."""


@dataclass(slots=True, frozen=True)
class Schedule:
    workloads: Sequence[Workload]
    servers: Sequence[Server]
    rounds: int
    settings: Settings

    def seconds(self, workload: Workload) -> float:
        able = sum(workload.app in server.apps for server in self.servers)
        return able * (START + self._measuring(workload))

    def _measuring(self, workload: Workload) -> float:
        measured = self.settings.duration + AROUND
        if workload.load == "idle":
            return CONNECTING
        if workload.load == "turns":
            return self.rounds * (2 * measured + CONNECTING)
        return self.rounds * (measured + (self.settings.warmup + AROUND if workload.load == "wrk" else 0.0))

    def announcement(self) -> str:
        total = sum(map(self.seconds, self.workloads))
        return f"{len(self.workloads)} workloads, {len(self.servers)} servers: about {said(total)}"

    def before(self, workload: Workload) -> str:
        at = self.workloads.index(workload)
        left = sum(map(self.seconds, self.workloads[at:]))
        return f"[{at + 1}/{len(self.workloads)}] {workload.name}: {said(self.seconds(workload))}, {said(left)} left"


def said(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} minutes"
