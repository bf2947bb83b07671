"""Examples, and what ``gkore create`` writes, are right for type checkers, as editors show it: through kore-stubs."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gkore.develop.skeleton import create

ROOT = Path(__file__).parents[1]


def examples() -> list[Path]:
    """Their folders: each is a program of its own, and several have an ``app.py``."""
    return sorted({file.parent for file in ROOT.glob("examples/*/*.py")})


def run(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MYPYPATH": os.pathsep.join([str(ROOT), str(ROOT / "examples/hello")])}
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_mypy_is_content_with_the_examples(tmp_path: Path) -> None:
    if not importlib.util.find_spec("mypy"):
        pytest.skip("mypy is not installed (pip install gkore[check])")
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = True\nignore_missing_imports = True\nfollow_imports = silent\n"
    )
    options = ["--config-file", str(tmp_path / "mypy.ini"), "--explicit-package-bases", "--namespace-packages"]
    made = []
    for style, file in (("conf", "app.py"), ("app", "app.py"), ("package", "made_package/handlers.py")):
        create(str(tmp_path / f"made_{style}"), style)
        made.append(str(tmp_path / f"made_{style}" / file))
    folders = [str(folder.relative_to(ROOT)) for folder in examples()]
    for one in made:
        done = run("mypy", *options[:2], "--cache-dir", str(tmp_path / "cache"), one)
        assert done.returncode == 0, done.stdout + done.stderr
    done = run("mypy", *options, "--cache-dir", str(tmp_path / "cache"), *folders)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Success" in done.stdout


def test_pyright_is_content_with_the_examples(tmp_path: Path) -> None:
    if not importlib.util.find_spec("pyright"):
        pytest.skip("pyright is not installed (pip install gkore[check])")
    version = run("pyright", "--version")
    if version.returncode or not version.stdout.startswith("pyright "):
        pytest.skip(f"pyright has not got what it runs on (npm, the network): {version.stderr.strip()[-200:]}")
    config = tmp_path / "pyrightconfig.json"
    include = [os.path.relpath(folder, tmp_path) for folder in examples()]  # it takes no others
    roots = [{"root": folder, "extraPaths": [str(ROOT)]} for folder in include]
    shutil.copytree(ROOT / "kore-stubs", tmp_path / "stubs" / "kore")  # a checkout has kore.py beside them, which wins
    settings = {"include": include, "executionEnvironments": roots, "extraPaths": [str(ROOT)], "stubPath": "stubs"}
    config.write_text(json.dumps({**settings, "typeCheckingMode": "standard"}))
    done = run("pyright", "--project", str(config), "--pythonpath", sys.executable, "--outputjson", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert found["summary"]["filesAnalyzed"] >= len(examples())
    wrong = [f"{one['file']}: {one['message']}" for one in found["generalDiagnostics"] if one["severity"] == "error"]
    assert wrong == []
