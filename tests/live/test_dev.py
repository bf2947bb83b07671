"""``gkore run`` as a developer sees it: reload on change, the old code while the new one is broken, tracebacks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
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


class Run:
    def __init__(self, directory: Path, *words: str) -> None:
        self.log_path = directory / "log"
        self.directory = directory
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gkore", "run", *words],
                cwd=directory,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def log(self) -> str:
        return self.log_path.read_text()

    def ready(self, times: int = 1) -> None:
        until(lambda: self.log().count("log=[ready: ") >= times, self.log)

    def get(self, path: str, accept: str = "*/*") -> tuple[int, str]:
        found = re.search(r"listening on (http://[\d.]+:\d+)", self.log())
        assert found is not None
        request = urllib.request.Request(found[1] + path, headers={"accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    (tmp_path / "app.py").write_text(APP.format(text="first"))
    started = Run(tmp_path, "--workers", "1")
    try:
        started.ready()
        yield started
        assert started.stop() == 0, started.log()
    finally:
        started.process.kill()
        started.process.wait()


def test_a_change_is_served_and_a_broken_one_is_not(run: Run) -> None:
    assert run.get("/") == (200, "first")
    (run.directory / "app.py").write_text(APP.format(text="second"))
    until(lambda: run.get("/")[1] == "second", run.log)
    run.ready(2)
    (run.directory / "app.py").write_text("def broken(:\n")
    until(lambda: "reload failed" in run.log(), run.log)
    assert "SyntaxError" in run.log()
    assert run.get("/") == (200, "second")
    (run.directory / "app.py").write_text(APP.format(text="third"))
    until(lambda: run.get("/")[1] == "third", run.log)


def test_the_traceback_is_a_page_for_browsers_and_text_for_others(run: Run) -> None:
    status, text = run.get("/broken")
    assert status == 500
    assert text.endswith("LookupError: <nobody>\n")
    assert "worker/connection.py" not in text
    status, page = run.get("/broken", "text/html,*/*")
    assert status == 500
    assert "<h1>LookupError: &lt;nobody&gt;</h1>" in page
    assert "class=at><i>   13 </i>    raise LookupError(&quot;&lt;nobody&gt;&quot;)" in page


def test_production_says_nothing(tmp_path: Path) -> None:
    from server import server

    with server(tmp_path, script=APP.format(text="x"), workers=1, tracebacks=True) as up:
        answer = up.get("/broken")
        assert (answer.status, answer.body) == (500, b"")
