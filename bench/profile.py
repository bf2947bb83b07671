"""Where gkore's time goes: py-spy on its worker under load, or perf when there is no py-spy; a text summary."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from bench import process
from bench.load import Settings, wrk
from bench.machine import on_cores
from bench.running import Running, run
from bench.servers import BIN, BY_NAME, SUBJECT
from bench.workloads import Workload

SECONDS = 5
PER_SECOND = 500
TOP = 40


def profile(workload: Workload, settings: Settings) -> str:
    """The summary; "" when neither py-spy nor perf is here. Raises Unusable when gkore can't be measured."""
    recorder = find_recorder()
    if not recorder:
        return ""
    with run(BY_NAME[SUBJECT], workload, settings.cores) as running, tempfile.TemporaryDirectory() as directory:
        raw = Path(directory, "raw")
        command = recorder_command(recorder, busiest(running, workload, settings), raw)
        recording = subprocess.Popen(
            on_cores(settings.cores.load, command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        wrk(running.port, workload, settings.cores, SECONDS + 1)
        said, _ = recording.communicate(timeout=60)
        if not raw.exists():
            return f"{recorder} recorded nothing: {said.strip()[-600:]}"
        return summary(raw.read_text()) if recorder.endswith("py-spy") else perf_summary(recorder, raw)


def find_recorder() -> str:
    """py-spy from .venv-bench or PATH, else perf, else ""."""
    return shutil.which(str(BIN / "py-spy")) or shutil.which("py-spy") or shutil.which("perf") or ""


def recorder_command(recorder: str, pid: int, raw: Path) -> list[str]:
    if recorder.endswith("py-spy"):
        how = [
            "--duration",
            str(SECONDS),
            "--rate",
            str(PER_SECOND),
            "--format",
            "raw",
            "--native",
            "--function",
            "--output",
            str(raw),
        ]
        return [recorder, "record", "--pid", str(pid), *how]
    return [
        recorder,
        "record",
        "-g",
        "-F",
        str(PER_SECOND),
        "-p",
        str(pid),
        "-o",
        str(raw),
        "--",
        "sleep",
        str(SECONDS),
    ]


def busiest(running: Running, workload: Workload, settings: Settings) -> int:
    """The pid of the process in the tree that a short load keeps busiest: the worker."""
    before = process.tree(running.pid)
    wrk(running.port, workload, settings.cores, 0.5)
    after = process.tree(running.pid)
    return max(before.keys() & after.keys(), key=lambda pid: after[pid].cpu - before[pid].cpu)


def summary(raw: str) -> str:
    """py-spy's raw lines, `outer;...;inner COUNT`, as own and total shares per frame."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    samples = sum(own.values()) or 1
    head = f"{samples} samples, {PER_SECOND}/s\n  own %  total %  frame"
    return "\n".join(
        [head] + [f"{own[f] / samples:7.1%}  {total[f] / samples:7.1%}  {f}" for f, _ in own.most_common(TOP)]
    )


def perf_summary(recorder: str, raw: Path) -> str:
    command = [recorder, "report", "--stdio", "--no-children", "-g", "none", "-i", str(raw)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    kept = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("#")]
    return "\n".join(["perf: own share, object, symbol", *kept[:TOP]]) if kept else done.stderr.strip()
