"""From samples to what one reads: medians, gkore's ratio to each (median of per-round ratios), remarks, goals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.servers import COMPILED, SUBJECT
from bench.workloads import WORKLOADS, Goal

BUSY = 0.90
"""Below this share of its cores the load generator, not the server, was the limit: rates then tell of the generator."""
WITHHELD = "-"
FOREIGN = 0.03
COLUMNS = (
    "server",
    "cost",
    "(min-max)",
    "per second",
    "p99 ms",
    "RSS MiB",
    "busy",
    "gkore/it: cost",
    "(min-max)",
    "rate",
)


@dataclass(slots=True, frozen=True)
class Spread:
    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one value."""
        ordered = sorted(values)
        return cls(median(ordered), ordered[0], ordered[-1])


@dataclass(slots=True, frozen=True)
class Line:
    """One server in one workload."""

    server: str
    cost: Spread
    rate: float
    p99_ms: float
    rss_mib: float
    busy: float
    foreign: float
    stolen: float
    errors: int
    cost_ratio: Spread | None
    """gkore's cost by this server's, per round; None when gkore was not measured or this is gkore."""
    rate_ratio: Spread | None
    more: float | None
    """By how much gkore's cost is over this server's: the median of the rounds."""

    @property
    def limited(self) -> bool:
        """Something else than the server was the limit."""
        return self.busy + self.foreign + self.stolen < BUSY


def lines(record: dict[str, Any], subject: str = SUBJECT) -> list[Line]:
    """One line per measured server, cheapest first, beside ``subject``."""
    samples = record["samples"]
    ours = samples.get(subject)
    return sorted(
        (line(name, rounds, None if name == subject else ours) for name, rounds in samples.items()),
        key=lambda one: one.cost.middle,
    )


def line(server: str, rounds: list[dict[str, Any]], ours: list[dict[str, Any]] | None) -> Line:
    def middle(key: str) -> float:
        return float(median(one[key] for one in rounds))

    def ratio(key: str) -> Spread | None:
        if ours is None or not all(one[key] > 0 for one in rounds):
            return None
        return Spread.of(our[key] / one[key] for our, one in zip(ours, rounds, strict=False))

    return Line(
        server=server,
        cost=Spread.of(one["cost"] for one in rounds),
        rate=middle("rate"),
        p99_ms=middle("p99_ms"),
        rss_mib=middle("rss_mib"),
        busy=middle("busy"),
        foreign=middle("foreign"),
        stolen=middle("stolen"),
        errors=sum(one["errors"] for one in rounds),
        cost_ratio=ratio("cost"),
        rate_ratio=ratio("rate"),
        more=median(our["cost"] - one["cost"] for our, one in zip(ours, rounds, strict=False)) if ours else None,
    )


def remarks(name: str, record: dict[str, Any], found: list[Line]) -> Iterator[str]:
    """What a reader must know before believing a figure, then the goals."""
    if record["unit"].startswith("CPU"):
        yield from said_of(
            found,
            lambda one: one.busy if one.limited else 0.0,
            "used {} of its core, so the load generator was the limit: no requests/s and no p99 of it; CPU compares",
        )
    shared = record.get("shared", False)
    whose = "others, the load generator most of all," if shared else "others"
    yield from said_of(
        found,
        lambda one: one.foreign if one.foreign > FOREIGN else 0.0,
        whose + " used {} of its cores meanwhile" + ("" if shared else ": run again on a quiet machine"),
    )
    yield from said_of(
        found,
        lambda one: one.stolen if one.stolen > FOREIGN else 0.0,
        "the hypervisor took {} of its core away: the cost is inflated",
    )
    yield from (f"{one.server}: {one.errors} connections failed" for one in found if one.errors)
    for server, why in record["left_out"].items():
        yield f"{server}: left out: {why.partition(chr(10))[0]}"
    compiled = lines(record, COMPILED) if COMPILED in record["samples"] else None
    for goal in goals(name):
        yield judged(goal, found, shared)
        if compiled is not None:
            yield "compiled: " + judged(goal, compiled, shared, COMPILED)


def refusals(results: dict[str, Any]) -> Iterator[str]:
    """The workloads whose goal is a rate, and whose rate is not the server's."""
    for name, record in results["workloads"].items():
        found = {one.server: one for one in lines(record)}
        for goal in goals(name):
            slow = [one.server for one in map(found.get, (SUBJECT, goal.peer)) if one is not None and one.limited]
            if goal.what == "rate" and slow and not record.get("shared"):
                yield (
                    f"{name}: requests/s of {' and '.join(slow)} were wrk's limit, not the server's: no verdict. Free "
                    f"wrk's core of other work, or run it where wrk has a faster core; the cost columns hold anyway"
                )


def said_of(found: list[Line], share: Callable[[Line], float], what: str) -> Iterator[str]:
    """One remark for all servers whose ``share`` is above zero."""
    shares = {one.server: share(one) for one in found if share(one)}
    if shares:
        yield f"{', '.join(shares)}: {what.format(', '.join(f'{value:.0%}' for value in shares.values()))}"


def goals(name: str) -> tuple[Goal, ...]:
    return next((workload.goals for workload in WORKLOADS if workload.name == name), ())


def judged(goal: Goal, found: list[Line], shared: bool, subject: str = SUBJECT) -> str:
    value = reached(goal, found, subject)
    if value is None:
        return f"goal: {goal}: not measured"
    if goal.what == "rate" and shared:
        return f"goal: {goal}: {value:.2f}, no verdict: the load generator needs part of the same cores"
    if goal.what == "rate" and any(one.limited for one in found if one.server in (subject, goal.peer)):
        return f"goal: {goal}: no verdict: the load generator was the limit"
    met = value >= goal.limit if goal.what == "rate" else value <= goal.limit
    return f"goal: {goal}: {'met' if met else 'MISSED'}, {value:.2f}"


def reached(goal: Goal, found: list[Line], subject: str = SUBJECT) -> float | None:
    """The subject's figure beside the goal's limit; None when either side is missing."""
    by_name = {one.server: one for one in found}
    if goal.what == "more":
        return by_name[goal.peer].more if goal.peer in by_name else None
    if not goal.peer:
        return by_name[subject].cost.middle if subject in by_name else None
    peer = by_name.get(goal.peer)
    ratio = peer and (peer.cost_ratio if goal.what == "cost" else peer.rate_ratio)
    return ratio.middle if ratio else None


def cells(one: Line) -> list[str]:
    cost, rate = one.cost_ratio, one.rate_ratio
    return [
        one.server,
        f"{one.cost.middle:.2f}",
        f"({one.cost.low:.2f}-{one.cost.high:.2f})",
        WITHHELD if one.limited else f"{one.rate:,.0f}",
        "" if one.limited or not one.p99_ms else f"{one.p99_ms:.2f}",
        f"{one.rss_mib:.1f}",
        f"{one.busy:.0%}",
        f"{cost.middle:.2f}" if cost else "",
        f"({cost.low:.2f}-{cost.high:.2f})" if cost else "",
        f"{rate.middle:.2f}" if rate and not one.limited else "",
    ]


def table(rows: list[list[str]]) -> Iterator[str]:
    """First column to the left, the others to the right."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        first, *others = (
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join([first, *others]).rstrip()


def title(name: str, record: dict[str, Any]) -> str:
    doc = next((workload.doc for workload in WORKLOADS if workload.name == name), "")
    return f"{name}: {doc} (cost: {record['unit']})"


def text(results: dict[str, Any]) -> str:
    """The whole report for a terminal."""
    machine, versions, settings = results["machine"], results["versions"], results["settings"]
    said = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}, "
        f"load {machine['load_average']} at the start",
        f"{machine['date']}, gkore {machine['commit']}, Python {versions.get('python', '?')} "
        f"(yardstick loop {versions.get('python_loop', '?')}); "
        f"median of {settings['rounds']} rounds of {settings['duration']:g} s",
    ]
    for name, record in results["workloads"].items():
        found = lines(record)
        said += ["", title(name, record)]
        said += table([list(COLUMNS), *map(cells, found)]) if found else ["  nothing was measured"]
        said += [f"  - {remark}" for remark in remarks(name, record, found)]
    return "\n".join(said)
