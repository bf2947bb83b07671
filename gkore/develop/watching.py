"""Noticing that files change: with watchfiles where it is installed (``pip install gkore[dev]``), else by looking."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from collections.abc import Iterable, Iterator
from posix import fork, waitpid

PAUSE = 0.1
"""Seconds between two looks."""
SETTLE = 0.03
"""Seconds without another change before one is reported: an editor writes, renames and touches."""
READ_SIZE = 65536
SUFFIXES = (".py", ".conf", ".html", ".json", ".toml", ".env")
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})


class Watch:
    """Folders watched by a process of their own, which may hold threads; it ends with ours."""

    def __init__(self, folders: Iterable[str]) -> None:
        self._reader, writer = os.pipe()
        parent = os.getpid()
        self.pid = fork()
        if self.pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
                    signal.signal(number, signal.SIG_IGN)
                os.close(self._reader)
                for changed in changes(folders):
                    if os.getppid() != parent:
                        break
                    if changed:
                        os.write(writer, "".join(f"{path}\n" for path in changed).encode())
            finally:
                os._exit(0)
        os.close(writer)
        os.set_blocking(self._reader, False)

    def fileno(self) -> int:
        return self._reader

    def read(self) -> set[str]:
        """The files that changed, as far as is known."""
        try:
            return set(os.read(self._reader, READ_SIZE).decode().splitlines())
        except BlockingIOError:
            return set()

    def close(self) -> None:
        os.close(self._reader)
        os.kill(self.pid, signal.SIGKILL)
        waitpid(self.pid, 0)


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
