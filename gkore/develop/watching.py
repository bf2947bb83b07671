"""Noticing that files change: with watchfiles where it is installed (``pip install gkore[dev]``), else by looking."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from posix import close, fork, waitpid  # not of os: see log and master.birth

PAUSE = 0.1
"""Seconds between two looks."""
SETTLE = 0.03
"""Seconds without another change before one is reported: an editor writes, renames and touches."""
READ_SIZE = 65536
SHARE = 4
"""Times as long as a look took is the pause at least: a large tree must not keep a CPU busy."""
SUFFIXES = (".py", ".conf", ".html", ".json", ".toml", ".env")
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})


Stamps = dict[str, tuple[int, int]]


class Watch:
    """Folders watched by a process of their own, which may hold threads; it ends with ours."""

    def __init__(self, folders: Iterable[str]) -> None:
        self._reader, writer = os.pipe()
        parent, known = os.getpid(), stamps(folders)
        self.pid = fork()
        if self.pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
                    signal.signal(number, signal.SIG_IGN)
                close(self._reader)
                for changed in changes(folders, known):
                    if os.getppid() != parent:
                        break
                    if changed:
                        os.write(writer, "".join(f"{path}\n" for path in changed).encode())
            except OSError:
                pass  # nobody reads any more
            finally:
                os._exit(0)
        close(writer)
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
        close(self._reader)
        os.kill(self.pid, signal.SIGKILL)
        waitpid(self.pid, 0)


def changes(folders: Iterable[str], known: Stamps) -> Iterator[set[str]]:
    """The files that changed since ``known``, then since the last turn: about ten times a second, mostly none."""
    watched = sorted({os.path.realpath(folder) for folder in folders})
    if importlib.util.find_spec("watchfiles"):
        try:
            yield from notified(watched, known)
        except Exception as failure:  # no more watches to be had (fs.inotify.max_user_watches), mostly
            sys.stderr.write(f"gkore: watchfiles gives up: {failure}; files are looked at instead\n")
            known = stamps(watched)
    yield from polled(watched, known)


def notified(folders: list[str], known: Stamps) -> Iterator[set[str]]:
    """By the kernel's word; what changed before it was asked for that is looked up."""
    from watchfiles import watch

    def interesting(_: object, path: str) -> bool:
        return matters(path)

    settle = int(SETTLE * 1000)
    before: Stamps | None = known
    for found in watch(
        *folders,
        watch_filter=interesting,
        debounce=settle,
        step=settle,
        rust_timeout=int(PAUSE * 1000),
        yield_on_timeout=True,
        raise_interrupt=True,
    ):
        changed = {path for _, path in found}
        if before is not None:
            changed |= differing(before, stamps(folders))
            before = None
        yield changed


def polled(folders: list[str], known: Stamps) -> Iterator[set[str]]:
    """By the times and sizes of all files."""
    while True:
        begun = time.monotonic()
        now = stamps(folders)
        changed = differing(known, now)
        if changed:
            time.sleep(SETTLE)
            now = stamps(folders)
        known = now
        yield changed
        time.sleep(max(PAUSE, SHARE * (time.monotonic() - begun)))


def differing(before: Stamps, now: Stamps) -> set[str]:
    return {path for path in before.keys() | now.keys() if before.get(path) != now.get(path)}


def stamps(folders: Iterable[str]) -> Stamps:
    """Modification time (ns) and size of every file that matters."""
    found: Stamps = {}
    for folder in map(os.path.realpath, folders):
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
