"""The hot path compiled, as somebody who wants it installs it: the same source, the same answers.

Here are the tests of what is compiled and of what touches it most; ``tox -e compiled`` runs all of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from gkore.compiled import is_compiled

ROOT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "tests", "docs", "results", "__pycache__")
LIVE = "contract corpus handlers limits refusal request responses seen tls websocket wsgi_bodies"


def without_compiler() -> str:
    """What is missing to compile; "" when nothing is."""
    header = Path(sysconfig.get_path("include"), "Python.h")
    return "a C compiler" if shutil.which("cc") is None else "" if header.exists() else str(header)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which gkore is a compiled one."""
    if is_compiled():
        pytest.skip("all tests of this run are of a compiled gkore")
    if missing := without_compiler():
        pytest.skip(f"gkore can't be compiled here and that is not tested: {missing} is missing")
    source = tmp_path_factory.mktemp("source") / "gkore"
    target = tmp_path_factory.mktemp("compiled")
    shutil.copytree(ROOT, source, ignore=LEFT_OUT)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(source)]
    done = subprocess.run(
        install, env={**os.environ, "GKORE_COMPILE": "1"}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {**os.environ, "PYTHONPATH": str(target)}


def test_it_says_so(compiled: dict[str, str]) -> None:
    gkore = Path(sys.executable).with_name("gkore")
    said = subprocess.run([gkore, "--version"], env=compiled, capture_output=True, text=True, timeout=60, check=True)
    assert " (compiled)," in said.stdout


@pytest.mark.slow
def test_it_passes_the_same_tests(compiled: dict[str, str], tmp_path: Path) -> None:
    suite = ["tests/protocol", "tests/worker", *(f"tests/live/test_{name}.py" for name in LIVE.split())]
    pytest_gevent = Path(sys.executable).with_name("pytest-gevent")
    command = [pytest_gevent, "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}", *suite]
    done = subprocess.run(command, cwd=ROOT, env=compiled, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
