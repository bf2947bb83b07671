"""The real server for tests: a conf and an application in a directory, the real CLI on them, real signals.

``with server(tmp_path, CONF, app=APP, workers=2) as up: up.get("/").body`` starts ``python -m gkore`` and waits until
all workers are ready. At the end the server is stopped with SIGTERM, and the test fails when that does not end it with
status 0, when the log holds a traceback that nobody announced (``tracebacks=True``), when a process of it is left, or,
with ``leaks=True``, when a worker holds more descriptors than when it was ready.

Nothing of it needs gevent in the test's own process, and all of it works when the standard library is patched.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gkore.testing.answer import Answer

HOME = Path(__file__).parents[2]
"""Where this gkore was imported from: the server under test is the same one."""
DEADLINE = 30
"""Seconds any single condition may take; reached only when something is broken."""


def until(condition: Callable[[], object], what: str | Callable[[], str]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {DEADLINE} s for {what if isinstance(what, str) else what()}")
        time.sleep(0.01)


class Server:
    """A started gkore."""

    def __init__(self, directory: Path, words: Sequence[str], env: Mapping[str, str]) -> None:
        self.directory = directory
        self.log_path = directory / "log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gkore", *words],
                cwd=directory,
                env={**os.environ, "PYTHONPATH": search_path(), **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def pid(self) -> int:
        """The master's."""
        return self.process.pid

    @property
    def workers(self) -> list[int]:
        """The workers' pids, oldest first; none when the master has ended."""
        try:
            return [int(word) for word in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            return []

    @property
    def ports(self) -> list[int]:
        return [int(port) for port in re.findall(r"listening on https?://\S*:(\d+) ", self.log())]

    @property
    def port(self) -> int:
        return self.ports[0]

    def ready(self, times: int = 1) -> None:
        """Wait until all workers were ready for the n-th time (start, SIGHUP, SIGTTIN, SIGTTOU)."""
        until(lambda: self.ended or self.log().count("log=[ready: ") >= times, lambda: f"ready:\n{self.log()}")
        assert not self.ended, f"gkore ended with {self.process.returncode}:\n{self.log()}"

    def says(self, pattern: str) -> None:
        """Wait for a line in the log."""
        until(lambda: re.search(pattern, self.log()), lambda: f"{pattern!r} in the log:\n{self.log()}")

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def ends(self) -> int:
        """Wait for the end; the exit status."""
        until(lambda: self.ended, lambda: f"the end of gkore:\n{self.log()}")
        return self.process.returncode

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    @property
    def url(self) -> str:
        """Where it listens first, ``http://127.0.0.1:PORT`` or with https; no slash at the end."""
        found = re.search(r"listening on (https?)://\S*:(\d+) ", self.log())
        assert found, f"it listens nowhere:\n{self.log()}"
        return f"{found[1]}://127.0.0.1:{found[2]}"

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    def reload(self) -> None:
        """SIGHUP, and wait until all workers are ready again."""
        times = self.log().count("log=[ready: ") + 1
        self.signal(signal.SIGHUP)
        self.ready(times)

    def descriptors(self) -> dict[int, int]:
        """How many files and sockets each worker holds open, by its pid."""
        found = {}
        for pid in self.workers:
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                found[pid] = len(os.listdir(f"/proc/{pid}/fd"))
        return found

    def get(self, path: str, method: str = "GET", **options: Any) -> Answer:
        """One request on a connection of its own; ``body`` and ``headers`` as for http.client."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            client.request(method, path, **options)
            response = client.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            client.close()

    def stop(self) -> int:
        """SIGTERM unless it has ended already; the exit status."""
        if not self.ended:
            self.signal(signal.SIGTERM)
        return self.ends()

    def processes(self) -> list[int]:
        """Every living process of the server's session: the master, its workers, what they started."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[3]) == self.pid and fields[0] != "Z":
                    found.append(int(entry.name))
        return found

    def kill(self) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()


def leaking(before: Mapping[int, int], up: Server) -> dict[int, str]:
    """The workers that hold more descriptors than before; those that were replaced since are not compared."""
    return {
        pid: f"{count}, not {before[pid]}" for pid, count in up.descriptors().items() if count > before.get(pid, count)
    }


def search_path() -> str:
    """PYTHONPATH for the server: as ours, with this gkore found first unless it is installed."""
    given = [path for path in (os.environ.get("PYTHONPATH"),) if path]
    return os.pathsep.join(given if "site-packages" in HOME.parts else [str(HOME), *given])


def written(directory: Path, conf: str | Path, app: str) -> Path:
    """The conf as a file; a text without an address gets one of its own, and the application its import."""
    if app:
        (directory / "app.py").write_text(app)
    if isinstance(conf, Path):
        return conf.resolve()
    if not re.search(r"^\s*(bind|bind_unix|unix)\s", conf, re.MULTILINE):
        conf = f"bind 127.0.0.1 0\n{conf}"
    if app and "python_import" not in conf:
        conf = f"python_import app.py\n{conf}"
    path = directory / "kore.conf"
    path.write_text(conf)
    return path


@contextmanager
def server(
    directory: Path,
    conf: str | Path = "",
    *,
    app: str = "",
    workers: int = 2,
    arguments: Sequence[str] = (),
    script: str | Path = "",
    tracebacks: bool = False,
    ready: bool = True,
    status: int | None = 0,
    env: Mapping[str, str] | None = None,
    bind: str = "",
    leaks: bool = False,
) -> Iterator[Server]:
    """Run gkore on ``conf`` (a text or a file) or on ``script`` (a program's text or its file), in ``directory``.

    ``arguments`` are more words for the command line (behind the script's name when there is a script); ``ready=False``
    does not wait; ``status`` is the exit status that is expected, None for any; ``bind`` is an address instead of the
    application's own.
    """
    words = ["--workers", str(workers)] if workers else []
    words += ["--bind", bind] if bind else []
    if isinstance(script, Path):
        words += [str(script.resolve()), *arguments]
    elif script:
        (directory / "script.py").write_text(script)
        words += ["script.py", *arguments]
    else:
        words += ["-c", str(written(directory, conf, app)), *arguments]
    up = Server(directory, words, env or {})
    try:
        if ready:
            up.ready()
        before = up.descriptors() if leaks else {}
        yield up
        until(lambda: up.ended or not leaking(before, up), lambda: f"descriptors to be closed: {leaking(before, up)}")
        ended = up.stop()
        assert status is None or ended == status, f"exit status {ended}, not {status}:\n{up.log()}"
        until(lambda: not up.processes(), lambda: f"processes {up.processes()} to end:\n{up.log()}")
        assert tracebacks or "Traceback" not in up.log(), up.log()
    finally:
        up.kill()
