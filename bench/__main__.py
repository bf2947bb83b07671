"""`scripts/bench`: argv to a run, a report, charts or a profile."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from bench import chart, install, machine, profile, report, run
from bench.load import Settings
from bench.machine import Cores, shout
from bench.running import Unusable
from bench.schedule import Schedule
from bench.servers import BIN, BY_NAME, SERVERS, SUBJECT, Server
from bench.workloads import WORKLOADS, Workload

RESULTS = Path(__file__).with_name("results")
DESCRIPTORS = 30_000


def main(argv: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped on the way out
    options = arguments().parse_args(argv)
    if options.list:
        print(catalogue())
        return 0
    if options.report:
        return show(json.loads(Path(options.report).read_text()), options.chart)
    workloads = [
        dataclasses.replace(w, connections=options.connections or w.connections)
        for w in WORKLOADS
        if w.name in (options.workload or [w.name])
    ]
    if options.profile:
        return write_profile(next(w for w in WORKLOADS if w.name == options.profile), options)
    results = measure(workloads, chosen(options.server), options)
    path = Path(options.json) if options.json else RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    status = show(results, options.chart)
    print(f"\nkept in {path}")
    return status


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="gkore beside its peers; see docs/benchmarks.md")
    names = [workload.name for workload in WORKLOADS]
    add = parser.add_argument
    add("--workload", nargs="+", metavar="NAME", choices=names, help="only these (default: all)")
    add("--server", nargs="+", metavar="NAME", choices=list(BY_NAME), help="only these (default: all but floor)")
    add("--rounds", type=int, default=3, metavar="N", help="interleaved rounds (default 3)")
    add("--duration", type=float, default=1.0, metavar="S", help="seconds measured, per server and round (default 1)")
    add("--warmup", type=float, default=0.2, metavar="S", help="seconds of load before each (default 0.2)")
    add("--connections", type=int, metavar="N", help="instead of the workload's own number")
    add("--json", metavar="FILE", help="where to keep the results (default: bench/results/TIME.json)")
    add("--report", metavar="FILE", help="show kept results again, measure nothing")
    add("--chart", metavar="DIR", type=Path, help="write an SVG bar chart per workload")
    add("--profile", metavar="NAME", choices=names, help="run gkore alone under py-spy or perf and write a summary")
    add("--list", action="store_true", help="workloads and servers")
    return parser


def catalogue() -> str:
    rows = [["workload", "what"], *([w.name, w.doc] for w in WORKLOADS), ["", ""]]
    rows += [["server", "what"], *([s.name, s.doc + ("" if s.default else " (only when named)")] for s in SERVERS)]
    return "\n".join(f"{name:12} {doc}".rstrip() for name, doc in rows)


def chosen(names: list[str] | None) -> list[Server]:
    return [server for server in SERVERS if (server.name in names if names else server.default)]


def measure(workloads: list[Workload], servers: list[Server], options: argparse.Namespace) -> dict[str, Any]:
    versions = install.install(servers)
    servers = [server for server in servers if install.present(server, versions)]
    if machine.raise_descriptor_limit(DESCRIPTORS) < max(w.connections for w in workloads) + 1000:
        shout("too few open files allowed for the idle connections: raise `ulimit -Hn`")
    settings = Settings(Cores.choose(), options.duration, options.warmup)
    schedule = Schedule(workloads, servers, options.rounds, settings)
    print(schedule.announcement(), file=sys.stderr, flush=True)
    results: dict[str, Any] = {
        "machine": machine.describe(install.CHECKOUT),
        "versions": versions,
        "settings": {"rounds": options.rounds, "duration": options.duration, "warmup": options.warmup},
        "workloads": {},
    }
    for workload in workloads:
        print(schedule.before(workload), file=sys.stderr, flush=True)
        results["workloads"][workload.name] = run.measure_workload(workload, servers, options.rounds, settings)
    return results


def show(results: dict[str, Any], charts: Path | None) -> int:
    """1 when nothing at all was measured, 3 when a rate that is judged was not the server's."""
    print(report.text(results))
    if charts:
        for path in chart.write_charts(results, charts):
            print(f"chart: {path}")
    refused = list(report.refusals(results))
    for refusal in refused:
        shout(refusal)
    if not any(record["samples"] for record in results["workloads"].values()):
        return 1
    return 3 if refused else 0


def write_profile(workload: Workload, options: argparse.Namespace) -> int:
    subject = BY_NAME[SUBJECT]
    versions = install.install([subject])
    if not (BIN / "py-spy").exists():
        install.pip(subject, "py-spy")
    if not install.present(subject, versions):
        return 1
    try:
        said = profile.profile(workload, Settings(Cores.choose(), options.duration, options.warmup))
    except Unusable as why:
        shout(f"gkore can't be profiled: {why}")
        return 1
    if not said:
        shout("no profile: neither py-spy nor perf is installed")
        return 1
    path = RESULTS / f"profile-{workload.name}-{time.strftime('%Y%m%d-%H%M%S')}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(said + "\n")
    print(f"{said}\n\nkept in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
