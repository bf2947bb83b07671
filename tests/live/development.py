"""``gkore run`` for tests: the real command in a directory, its log, its answers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server import REPOSITORY, until

APP = """
import kore
kore.server(ip="127.0.0.1", port="0", tls=False)
kore.domain("*")

@kore.route("/")
def page(req):
    req.response(200, "{text}")

@kore.route("/broken")
async def broken(req):
    await kore.suspend(1)
    raise LookupError("<nobody>")
"""


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}


class Run:
    def __init__(self, directory: Path, *words: str) -> None:
        self.log_path = directory / "log"
        self.directory = directory
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gkore", "run", *words],
                cwd=directory,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def log(self) -> str:
        return self.log_path.read_text()

    def ready(self, times: int = 1) -> None:
        until(lambda: self.log().count("log=[ready: ") >= times, self.log)

    @property
    def url(self) -> str:
        found: list[str] = re.findall(r"(?:listening on|are shown it, too:) (https?://[\d.]+:\d+)", self.log())
        assert found
        return found[-1]

    def get(self, path: str, accept: str = "*/*", **fields: str) -> tuple[int, str]:
        """Status and text; ``sec_fetch_mode="cors"`` is a field."""
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        request = urllib.request.Request(self.url + path, headers={"accept": accept, **named})
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def running(directory: Path, *words: str) -> Iterator[Run]:
    started = Run(directory, "--workers", "1", *words)
    try:
        yield started
        assert started.stop() == 0, started.log()
    finally:
        started.process.kill()
        started.process.wait()
