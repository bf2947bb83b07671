"""Noticing that files change: with watchfiles where it is installed (``pip install gkore[dev]``), else by looking."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterable, Iterator

PAUSE = 0.1
"""Seconds between two looks."""
SETTLE = 0.03
"""Seconds without another change before one is reported: an editor writes, renames and touches."""
SUFFIXES = (".py", ".conf", ".html", ".json", ".toml", ".env")
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})


def changes(folders: Iterable[str]) -> Iterator[set[str]]:
    """The files that changed since the last turn, about ten times a second; an empty set most of the time."""
    watched = sorted({os.path.realpath(folder) for folder in folders})
    return notified(watched) if importlib.util.find_spec("watchfiles") else polled(watched)


def notified(folders: list[str]) -> Iterator[set[str]]:
    """By the kernel's word."""
    from watchfiles import watch

    def interesting(_: object, path: str) -> bool:
        return matters(path)

    settle = int(SETTLE * 1000)
    for found in watch(
        *folders,
        watch_filter=interesting,
        debounce=settle,
        step=settle,
        rust_timeout=int(PAUSE * 1000),
        yield_on_timeout=True,
        raise_interrupt=True,
    ):
        yield {path for _, path in found}


def polled(folders: list[str]) -> Iterator[set[str]]:
    """By the times and sizes of all files."""
    known = stamps(folders)
    while True:
        time.sleep(PAUSE)
        now = stamps(folders)
        changed = {path for path in known.keys() | now.keys() if known.get(path) != now.get(path)}
        if changed:
            time.sleep(SETTLE)
            now = stamps(folders)
        known = now
        yield changed


def stamps(folders: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Modification time (ns) and size of every file that matters."""
    found = {}
    for folder in folders:
        for directory, names, files in os.walk(folder):
            names[:] = [name for name in names if name not in SKIPPED and not name.startswith(".")]
            for name in files:
                path = os.path.join(directory, name)
                if matters(path):
                    try:
                        facts = os.stat(path)
                    except OSError:
                        continue
                    found[path] = (facts.st_mtime_ns, facts.st_size)
    return found


def matters(path: str) -> bool:
    parts = path.split(os.sep)
    return path.endswith(SUFFIXES) and not SKIPPED.intersection(parts) and not parts[-1].startswith(".")
