"""The tutorial's service does what its OpenAPI description says: schemathesis asks it whatever the description allows.

Two of its rules are not ours. A parameter that is absent is the handler's affair in Kore, so 422 may answer what the
schema allows; and TRACE is a method that gkore implements nowhere, which is 501 and not 405 (RFC 9110, 9.1).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, Session, blocks

CONFIG = """\
[phases.coverage]
unexpected-methods = ["DELETE", "PUT", "PATCH", "OPTIONS"]

[checks]
positive_data_acceptance.expected-statuses = ["2xx", "403", "422"]
"""
COMMAND = [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run", "--no-color"]
OPTIONS = ["--phases", "coverage,fuzzing", "--max-examples", "15", "--seed", "1", "--generation-database", "none"]


def ask(session: Session, *more: str) -> subprocess.CompletedProcess[str]:
    (session.directory / "schemathesis.toml").write_text(CONFIG)
    command = [*COMMAND, *OPTIONS, *more, f"http://127.0.0.1:{session.port}/api"]
    return subprocess.run(command, cwd=session.directory, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def tutorial(tmp_path: Path) -> Session:
    """The guest book of the tutorial's first steps, with its description served."""
    pytest.importorskip("schemathesis", reason="schemathesis is not installed (pip install gkore[check])")
    session = Session(tmp_path)
    files = {}
    for block in blocks(ROOT / "docs/tutorial.md"):
        if block.file == "store.py":
            break  # from here on it needs a database
        if block.file:
            files[block.file] = block
    for block in files.values():
        session.run(block)
    conf = tmp_path / "kore.conf"
    conf.write_text(conf.read_text().replace("domain * {", "domain * {\n    openapi /api", 1))
    return session


def test_the_tutorial_answers_as_described(tutorial: Session) -> None:
    try:
        tutorial.serve("docs/tutorial.md", "gkore -c kore.conf", [])
        for key in ("for the tutorial", "wrong"):
            done = ask(tutorial, "--header", f"x-key: {key}")
            assert done.returncode == 0, done.stdout + done.stderr
            assert "Tested: 3" in done.stdout
        tutorial.stop()
    finally:
        tutorial.close()


def test_what_is_not_as_described_is_noticed(tutorial: Session) -> None:
    book = tutorial.directory / "book.py"
    book.write_text(book.read_text().replace('    req.response(201, "thank you\\n")', "    raise ValueError(line)"))
    try:
        tutorial.serve("docs/tutorial.md", "gkore -c kore.conf", [])
        done = ask(tutorial)
        assert done.returncode == 1
        assert "Server error" in done.stdout
        tutorial.stop(traceback=True)
    finally:
        tutorial.close()
