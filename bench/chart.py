"""One SVG bar chart per workload, written by hand: cost per server, cheapest first, gkore in colour."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from bench.report import lines
from bench.servers import SUBJECT
from bench.workloads import WORKLOADS

WIDTH, LABEL, BAR, GAP, TOP = 640, 110, 22, 8, 52
STYLE = (
    "text{font:13px sans-serif;fill:#24292f}.t{font-weight:bold;font-size:15px}.m{font-size:11px;fill:#6e7781}"
    ".b{fill:#afb8c1}.g{fill:#1a7f64}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.m{fill:#8b949e}.b{fill:#484f58}}"
)


def write_charts(results: dict[str, Any], directory: Path) -> list[Path]:
    """``directory``/WORKLOAD.svg for every workload with figures. OSError when it can't be written."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, record in results["workloads"].items():
        if record["samples"]:
            path = directory / f"{name}.svg"
            path.write_text(svg(name, record, results["machine"]), encoding="utf-8")
            written.append(path)
    return written


def svg(name: str, record: dict[str, Any], machine: dict[str, Any]) -> str:
    found = lines(record)
    longest = max(one.cost.middle for one in found) or 1.0
    doc = next((workload.doc for workload in WORKLOADS if workload.name == name), "")
    height = TOP + len(found) * (BAR + GAP) + 8
    note = f"{record['unit']}, shorter is better; {machine['cpu']}, {machine['date'][:10]}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<style>{STYLE}</style>",
        f'<text class="t" x="0" y="16">{escape(f"{name}: {doc}")}</text>',
        f'<text class="m" x="0" y="36">{escape(note)}</text>',
    ]
    for n, one in enumerate(found):
        y = TOP + n * (BAR + GAP)
        length = max(1.0, one.cost.middle / longest * (WIDTH - LABEL - 60))
        kind = "g" if one.server == SUBJECT else "b"
        parts += [
            f'<text x="{LABEL - 8}" y="{y + 16}" text-anchor="end">{escape(one.server)}</text>',
            f'<rect class="{kind}" x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>',
            f'<text x="{LABEL + length + 6:.1f}" y="{y + 16}">{one.cost.middle:.1f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
