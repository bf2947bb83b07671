"""The machine: its cores, its limits, and its description for the report."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def shout(text: str) -> None:
    """What must not be overlooked, on stderr."""
    print(f"!! {text}", file=sys.stderr, flush=True)


@dataclass(slots=True, frozen=True)
class Cores:
    """Where servers run and where the load generator runs; the same core when there is only one."""

    server: str
    load: str
    """Lists as taskset(1) has them: 0,1."""

    @classmethod
    def choose(cls) -> Cores:
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            shout(
                "only one core, shared with the load generator: requests/s mean little, CPU per request still compares"
            )
        return cls(server=str(allowed[-1]), load=str(allowed[0]))

    @classmethod
    def pair(cls) -> Cores:
        """Two cores for a server with two workers; the load generator has what is left, or is nice."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(server=listed(allowed[-2:]), load=listed(allowed[:-2] or allowed))

    @property
    def count(self) -> int:
        """Of the server."""
        return len(self.server.split(","))

    @property
    def shared(self) -> bool:
        return bool({*self.server.split(",")} & {*self.load.split(",")})


def listed(cores: list[int]) -> str:
    return ",".join(map(str, cores))


def on_cores(cores: str, command: list[str], nice: bool = False) -> list[str]:
    """``command``, pinned; children inherit it (taskset(1), sched_setaffinity(2))."""
    politely = ["nice", "-n", "19"] if nice else []
    return ["taskset", "-c", cores, *politely, *command]


def raise_descriptor_limit(wanted: int) -> int:
    """The soft limit of open files that we and our children now have: ``wanted`` if we may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in ((max(wanted, soft), max(wanted, hard)), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            return limit[0]
        except (OSError, ValueError):
            continue  # raising the hard limit is root's
    return soft


def first_line(*command: str) -> str:
    """The first line that a command says on either stream; "" when there is no such command."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip().partition("\n")[0]


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def describe(checkout: Path) -> dict[str, Any]:
    """Everything about here and now that a figure depends on."""
    commit = first_line("git", "-C", str(checkout), "describe", "--always", "--dirty")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit,
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "kernel": platform.release(),
        "load_average": round(os.getloadavg()[0], 2),
    }
