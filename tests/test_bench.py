"""The bench without peers: a report from canned figures, and the floor started, measured and stopped for real."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))

from bench import kore, process, servers  # noqa: E402
from bench.load import Settings, measure, reported, started  # noqa: E402
from bench.machine import Cores  # noqa: E402
from bench.profile import summary  # noqa: E402
from bench.running import Unusable, run  # noqa: E402
from bench.schedule import Schedule  # noqa: E402
from bench.servers import BY_NAME, SERVERS, SUBJECT, Server  # noqa: E402
from bench.workloads import WORKLOADS  # noqa: E402

IDLE = next(workload for workload in WORKLOADS if workload.name == "idle")


def round_of(cost: float, rate: float, busy: float = 0.99) -> dict[str, float]:
    quiet = {"p99_ms": 1.5, "rss_mib": 20.0, "foreign": 0.0, "stolen": 0.0, "errors": 0}
    return {"cost": cost, "rate": rate, "busy": busy, **quiet}


@pytest.fixture
def canned(tmp_path: Path) -> Path:
    """Three rounds in which the machine slows down by the round: ratios hold, absolute figures don't."""
    samples = {
        "gkore": [round_of(6, 100_000), round_of(12, 50_000), round_of(24, 25_000)],
        "uvicorn": [round_of(10, 60_000), round_of(24, 30_000), round_of(40, 15_000)],
        "nginx": [round_of(5, 90_000, busy=0.5)] * 3,
    }
    record = {
        "unit": "CPU us/request",
        "samples": samples,
        "answer_bytes": {},
        "left_out": {"bjoern": "no <compiler>\nx"},
    }
    results: dict[str, Any] = {
        "machine": {"date": "2026-01-02T03:04:05Z", "commit": "abc", "cpu": "A <&> B", "cores": 2, "memory_gib": 4.0}
        | {"kernel": "6.1", "load_average": 0.0},
        "versions": {"python": "3.11.0"},
        "settings": {"rounds": 3, "duration": 1.0, "warmup": 0.3},
        "workloads": {"hello": record},
    }
    path = tmp_path / "canned.json"
    path.write_text(json.dumps(results))
    return path


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_report_and_chart_from_canned_figures(canned: Path, tmp_path: Path) -> None:
    done = bench("--report", str(canned), "--chart", str(tmp_path / "charts"))
    assert done.returncode == 0, done.stderr
    rows = {words[0]: words[1:] for line in done.stdout.splitlines() if (words := line.split())}
    # the median of the ratios 0.6, 0.5, 0.6; the ratio of the medians would be 0.5
    assert rows["uvicorn"][:2] == ["24.00", "(10.00-40.00)"]
    assert rows["uvicorn"][-3:] == ["0.60", "(0.50-0.60)", "1.67"]
    assert rows["gkore"][0] == "12.00"
    assert "nginx: used 50% of its core, so the load generator was the limit" in done.stdout
    assert rows["nginx"][2:5] == ["-", "20.0", "50%"]  # its requests/s and p99 would be the generator's
    assert rows["nginx"][-1] == "(1.20-4.80)"
    assert "goal: cost at most 0.6 of uvicorn's: met, 0.60" in done.stdout
    assert "goal: cost at most 0.7 of granian's: not measured" in done.stdout
    assert "bjoern: left out: no <compiler>" in done.stdout

    drawing = ET.parse(tmp_path / "charts" / "hello.svg").getroot()
    bars = drawing.findall("{http://www.w3.org/2000/svg}rect")
    assert [bar.get("class") for bar in bars] == ["b", "g", "b"]  # cheapest first: nginx, gkore, uvicorn
    widths = [float(bar.get("width", "0")) for bar in bars]
    assert widths == sorted(widths)


def test_a_missed_goal_is_said(canned: Path) -> None:
    results = json.loads(canned.read_text())
    for one in results["workloads"]["hello"]["samples"]["uvicorn"]:
        one["cost"] /= 2
    canned.write_text(json.dumps(results))
    assert "goal: cost at most 0.6 of uvicorn's: MISSED, 1.20" in bench("--report", str(canned)).stdout


def test_a_rate_that_is_not_the_servers_gets_no_verdict(canned: Path) -> None:
    results = json.loads(canned.read_text())
    results["workloads"]["pipelined"] = results["workloads"].pop("hello")
    canned.write_text(json.dumps(results))
    done = bench("--report", str(canned))
    assert "goal: rate at least 2.5 of nginx's: no verdict: the load generator was the limit" in done.stdout
    assert done.returncode == 3
    assert "pipelined: requests/s of nginx were wrk's limit" in done.stderr
    assert "Free wrk's core" in done.stderr


def test_two_workers_beside_one_share_their_cores_with_the_load(canned: Path) -> None:
    results = json.loads(canned.read_text())
    record = results["workloads"]["pair"] = results["workloads"].pop("hello")
    record["samples"]["gkore-alone"] = record["samples"].pop("uvicorn")
    record["shared"] = True
    canned.write_text(json.dumps(results))
    done = bench("--report", str(canned))
    assert "goal: rate at least 1.9 of gkore-alone's: 1.67, no verdict: the load generator needs part" in done.stdout
    assert done.returncode == 0


def test_a_log_is_judged_by_what_it_adds(canned: Path) -> None:
    results = json.loads(canned.read_text())
    record = results["workloads"]["logged"] = results["workloads"].pop("hello")
    record["samples"]["gkore-silent"] = [round_of(5, 1), round_of(11.5, 1), round_of(23.5, 1)]
    canned.write_text(json.dumps(results))
    assert "goal: cost at most 1 over gkore-silent's: met, 0.50" in bench("--report", str(canned)).stdout


def test_a_run_says_how_long_it_will_take() -> None:
    short = Settings(Cores.choose(), 1.0, 0.2)
    usual = [server for server in SERVERS if server.default]
    schedule = Schedule(WORKLOADS, usual, 3, short)
    assert sum(map(schedule.seconds, WORKLOADS)) < 15 * 60  # the promise of docs/benchmarks.md
    assert schedule.announcement().startswith(f"{len(WORKLOADS)} workloads, {len(usual)} servers: about 1")
    assert schedule.before(WORKLOADS[-1]).startswith(f"[{len(WORKLOADS)}/{len(WORKLOADS)}] ws-idle: ")


@pytest.mark.skipif(
    bool({"kore", "gcc", "libssl-dev"} & {*kore.missing()}), reason="no Kore: apt-get install kore gcc libssl-dev"
)
def test_kore_itself_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(servers, "KORE_MODULE", tmp_path / "kore_hello.so")
    monkeypatch.setattr(kore, "KORE_MODULE", tmp_path / "kore_hello.so")
    kore.build_module()
    workload = next(workload for workload in WORKLOADS if workload.name == "hello")
    with run(BY_NAME["kore-c"], workload, Cores.choose()) as running:
        assert running.answer_bytes > 100


def test_rows_fit_each_other() -> None:
    for workload in WORKLOADS:
        assert workload.app in BY_NAME[SUBJECT].apps, workload.name
        assert {goal.peer for goal in workload.goals} <= {"", *BY_NAME}, workload.name


def test_list_names_every_row() -> None:
    listed = bench("--list").stdout
    assert {*(w.name for w in WORKLOADS), *BY_NAME} <= {line.split()[0] for line in listed.splitlines() if line}


def test_the_floor_is_measured_and_stopped() -> None:
    workload = dataclasses.replace(IDLE, connections=150)
    with run(BY_NAME["floor"], workload, Cores.choose()) as running:
        family = process.tree(running.pid)
        assert running.pid in family
        sample = measure(running, workload, Settings(Cores.choose(), 0.1, 0.0))
        assert sample.rss_mib > 1
        assert sample.rate > 0
    assert not any(process.stat(pid) for pid in family)


def test_a_server_that_does_not_start_says_why() -> None:
    broken = Server(
        "broken", "", lambda place, app: [sys.executable, "-c", "raise SystemExit('no luck')"], {"hello": "x"}
    )
    with pytest.raises(Unusable, match="exit status 1; it said:\nno luck"), run(broken, IDLE, Cores.choose()):
        pass


def test_profile_summary_tells_own_from_total() -> None:
    said = summary("main;serve;parse 30\nmain;serve 10\nmain;serve;parse;parse 60\n")
    shares = {words[2]: words[:2] for line in said.splitlines()[2:] if (words := line.split())}
    assert shares == {"parse": ["90.0%", "90.0%"], "serve": ["10.0%", "100.0%"]}


DEAF = """
import signal
heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append(1))
print("READY", flush=True)
while len(heard) < 2:
    signal.pause()
print('JSON {"requests": 7}', flush=True)
"""


def test_a_load_that_misses_a_signal_is_told_again() -> None:
    with started([sys.executable, "-c", DEAF]) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "READY\n"
        assert reported(child, 0.0) == {"requests": 7}
