"""THE WORKLOADS: one row each. A new one is a row here, and a function per server in `bench/apps` for a new app."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

# What Firefox sends for a page of its own site: ten headers beside Host, 560 bytes.
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.7,nl;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Connection": "keep-alive",
    "Cookie": "session=5f2b7c1e9a034d68; theme=dark; seen=1",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
}


@dataclass(slots=True, frozen=True)
class Goal:
    """gkore's median ratio to ``peer``: "cost" at most, "rate" at least ``limit``; peer "" is gkore's cost itself."""

    peer: str
    limit: float
    what: Literal["cost", "rate"] = "cost"

    def __str__(self) -> str:
        bound = "at most" if self.what == "cost" else "at least"
        return f"{self.what} {bound} {self.limit:g}" + (f" of {self.peer}'s" if self.peer else "")


@dataclass(slots=True, frozen=True)
class Workload:
    """One load; ``cost`` is what it is judged by: CPU microseconds a request, or KiB a connection for "idle"."""

    name: str
    doc: str
    app: str = "hello"
    """Which application answers: a key of every server's ``apps``; a server without it sits this workload out."""
    load: Literal["wrk", "idle"] = "wrk"
    connections: int = 64
    depth: int = 1
    """Requests written at once on a connection before their answers are awaited."""
    headers: dict[str, str] = field(default_factory=dict)
    goals: tuple[Goal, ...] = ()

    @property
    def path(self) -> str:
        return f"/{self.app}"

    @property
    def unit(self) -> str:
        return "KiB/connection" if self.load == "idle" else "CPU us/request"


HELLO_GOALS = (Goal("uvicorn", 0.75), Goal("granian", 0.85))

WORKLOADS = (
    Workload("hello", "a plain `def` handler answers 11 bytes", goals=HELLO_GOALS),
    Workload("hello-async", "the same from an `async def` handler", app="hello-async", goals=HELLO_GOALS),
    Workload("browser", "ten headers as a browser sends them", headers=BROWSER, goals=(Goal("uvicorn", 0.55),)),
    Workload("pipelined", "16 requests written at once", depth=16, goals=(Goal("nginx", 2.5, "rate"),)),
    Workload("suspend", "the handler waits 1 ms", app="suspend", goals=(Goal("uvicorn", 0.7), Goal("kore", 1.1))),
    Workload("idle", "10,000 idle keep-alive connections", load="idle", connections=10_000, goals=(Goal("", 10),)),
    Workload(
        "fresh", "a new connection for every request", headers={"Connection": "close"}, goals=(Goal("uvicorn", 0.9),)
    ),
)
