"""What can be told of a running server: the workers' rows of the counters, added up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import accumulate
from time import monotonic
from typing import TYPE_CHECKING, Any

from gkore import __version__
from gkore.master.children import State
from gkore.protocol.counters import BEAT_TIME, Cell
from gkore.protocol.latency import BOUNDS, SUM

if TYPE_CHECKING:
    from gkore.master.fleet import Fleet

ESCAPES = {ord("\\"): "\\\\", ord('"'): '\\"', ord("\n"): "\\n"}
"""In a label's value, which may be a regular expression."""
CELLS = {
    "connections": Cell.CONNECTIONS,
    "requests": Cell.REQUESTS,
    "rate": Cell.RATE,
    "websockets": Cell.WEBSOCKETS,
    "tasks": Cell.TASKS,
    "rss": Cell.RSS,
    "lag": Cell.LAG,
    "blocked": Cell.LATE,
    "slow": Cell.SLOW,
    "lost": Cell.CLUSTER_LOST,
}


def census(fleet: Fleet) -> dict[str, Any]:
    """The server and each of its workers, as plain data."""
    now = monotonic()
    workers: list[dict[str, Any]] = []
    for child in sorted(fleet.children.values(), key=lambda child: (child.slot, child.born)):
        row = fleet.nursery.counters.row(child.row)
        counted = {name: row[cell] for name, cell in CELLS.items()}
        if row[Cell.BEAT]:  # a blocked worker does not say so itself
            counted["lag"] = max(counted["lag"], round((now - BEAT_TIME) * 1000) - row[Cell.BEAT])
        workers.append(
            {
                "slot": child.slot,
                "pid": child.pid,
                "state": child.state.name.lower(),
                "generation": child.generation,
                "age": round(now - child.born),
                **counted,
                "private": child.private_memory(),
            }
        )
    return {
        "version": __version__,
        "pid": os.getpid(),
        "wanted": fleet.wanted,
        "settled": fleet.settled,
        "stopping": fleet.status is not None,
        "held": fleet.held or bool(fleet.kept),
        "generation": fleet.generation,
        "restarts": fleet.restarts,
        "requests": fleet.nursery.past[Cell.REQUESTS] + sum(worker["requests"] for worker in workers),
        "keymgr": {"pid": fleet.keymgr.pid, "keys": fleet.keymgr.keys} if fleet.keymgr else None,
        "workers": workers,
        "certificates": fleet.certificates.census(),
    }


def ready(fleet: Fleet) -> bool:
    """Whether new clients should be sent here: somebody is READY, and no stop has begun."""
    return fleet.status is None and any(child.state is State.READY for child in fleet.children.values())


def prometheus(fleet: Fleet) -> str:
    """The same as text for Prometheus (its exposition format 0.0.4)."""
    found = census(fleet)
    totals = {
        "requests_total": ("counter", "Requests served, by workers that have left too.", found["requests"]),
        "worker_restarts_total": ("counter", "Workers replaced because they died.", found["restarts"]),
        "reloads_total": ("counter", "Reloads and renewals of all workers.", found["generation"] - 1),
        "workers_wanted": ("gauge", "Workers that there should be.", found["wanted"]),
        "ready": ("gauge", "1 while new clients are welcome.", int(ready(fleet))),
    }
    lines = []
    for name, (kind, text, value) in totals.items():
        lines += [f"# HELP gkore_{name} {text}", f"# TYPE gkore_{name} {kind}", f"gkore_{name} {value}"]
    lines += _latency(fleet)
    for name, (kind, text, key, scale) in SERIES.items():
        lines += [f"# HELP gkore_worker_{name} {text}", f"# TYPE gkore_worker_{name} {kind}"]
        for worker in found["workers"]:
            labels = f'worker="{worker["slot"]}",pid="{worker["pid"]}",state="{worker["state"]}"'
            lines.append(f"gkore_worker_{name}{{{labels}}} {worker[key] * scale:g}")
    for name, (text, key) in CERTIFICATES.items():
        lines += [f"# HELP gkore_certificate_{name} {text}", f"# TYPE gkore_certificate_{name} gauge"]
        for one in found["certificates"]:
            lines.append(f'gkore_certificate_{name}{{domain="{one["domain"]}"}} {one[key] or 0:.0f}')
    return "\n".join(lines) + "\n"


def _latency(fleet: Fleet) -> Iterator[str]:
    """The histograms of all routes that anybody asked for."""
    name = "gkore_request_duration_seconds"
    totals = fleet.nursery.latencies.totals(child.latency for child in fleet.children.values())
    yield f"# HELP {name} From the begin of a route's handler to its end."
    yield f"# TYPE {name} histogram"
    for label, cells in totals.items():
        count = sum(cells[:SUM])
        if not count:
            continue
        route = ",".join(f'{key}="{text.translate(ESCAPES)}"' for key, text in label._asdict().items())
        for bound, most in zip((*map("{:g}".format, BOUNDS), "+Inf"), accumulate(cells[:SUM]), strict=True):
            yield f'{name}_bucket{{{route},le="{bound}"}} {most}'
        yield f"{name}_sum{{{route}}} {cells[SUM] / 1e9:.9g}"
        yield f"{name}_count{{{route}}} {count}"


CERTIFICATES = {
    "expiry_seconds": ("When the certificate ends, in seconds since 1970; 0 for a placeholder.", "until"),
    "failures": ("Failed tries in a row to get it by ACME.", "failures"),
}
"""Of every domain with TLS."""


SERIES: dict[str, tuple[str, str, str, float]] = {
    "requests_total": ("counter", "Requests served.", "requests", 1),
    "connections": ("gauge", "Open connections.", "connections", 1),
    "websockets": ("gauge", "Open websockets.", "websockets", 1),
    "tasks": ("gauge", "Tasks that run or wait now: requests, task_create, gather.", "tasks", 1),
    "memory_bytes": ("gauge", "Resident memory, with what is shared with the master.", "rss", 1),
    "private_memory_bytes": ("gauge", "Memory that is the worker's alone.", "private", 1),
    "lag_seconds": ("gauge", "How late the loop came round at its last beat, or is for the next one.", "lag", 0.001),
    "blocked_total": ("counter", "How often the loop was found blocked.", "blocked", 1),
    "websocket_dropped_total": ("counter", "Messages that slow websockets did not get.", "slow", 1),
    "cluster_lost_total": ("counter", "Broadcasts lost on their way between hosts.", "lost", 1),
    "age_seconds": ("gauge", "Seconds since the worker was forked.", "age", 1),
}
