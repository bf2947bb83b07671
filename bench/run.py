"""One run: every workload, its servers in interleaved rounds (A B C A B C ...), samples collected as plain data."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, replace
from typing import Any

from bench.load import Settings, measure
from bench.machine import Cores, shout
from bench.postgres import database
from bench.running import Running, Unusable, run
from bench.servers import Server
from bench.workloads import Workload


def measure_workload(workload: Workload, servers: Sequence[Server], rounds: int, settings: Settings) -> dict[str, Any]:
    """The samples of every server that held out for all rounds, and why the others are left out."""
    record: dict[str, Any] = {"unit": workload.unit, "samples": {}, "answer_bytes": {}, "left_out": {}}
    able = [server for server in servers if workload.app in server.apps]
    for server in servers:
        if server not in able and not server.beside:
            record["left_out"][server.name] = f"has no application {workload.app!r}"
    measured = idle if workload.load == "idle" else interleaved
    if workload.app == "pair":
        settings = replace(settings, cores=Cores.pair())
    record["shared"] = settings.cores.shared
    with database() if workload.app == "postgres" else nullcontext():
        measured(workload, able, rounds, settings, record)
    return record


def interleaved(
    workload: Workload, servers: Sequence[Server], rounds: int, settings: Settings, record: dict[str, Any]
) -> None:
    """All servers stay up for all rounds: one that isn't asked costs nothing, and the rounds stay close together."""
    with ExitStack() as stack:
        up: list[Running] = []
        for server in servers:
            try:
                up.append(stack.enter_context(run(server, workload, settings.cores)))
            except Unusable as why:
                leave_out(record, workload, server, str(why))
        for number in range(rounds):
            for running in list(up):
                progress(f"{workload.name} round {number + 1}/{rounds}: {running.server.name}")
                if not sample(workload, running, settings, record):
                    up.remove(running)
    progress("")


def idle(
    workload: Workload, servers: Sequence[Server], rounds: int, settings: Settings, record: dict[str, Any]
) -> None:
    """Memory can be read once from a new process only, and hardly varies: one round, one server at a time."""
    for server in servers:
        progress(f"{workload.name}: {server.name}")
        try:
            with run(server, workload, settings.cores) as running:
                sample(workload, running, settings, record)
        except Unusable as why:
            leave_out(record, workload, server, str(why))
    progress("")


def sample(workload: Workload, running: Running, settings: Settings, record: dict[str, Any]) -> bool:
    """Whether the server goes on to the next round."""
    name = running.server.name
    try:
        taken = measure(running, workload, settings)
    except Unusable as why:
        record["samples"].pop(name, None)
        leave_out(record, workload, running.server, str(why))
        return False
    record["samples"].setdefault(name, []).append(asdict(taken))
    record["answer_bytes"][name] = running.answer_bytes
    return True


def leave_out(record: dict[str, Any], workload: Workload, server: Server, why: str) -> None:
    record["left_out"][server.name] = why
    progress("")
    shout(f"{workload.name}: {server.name} is left out: {why}")


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
