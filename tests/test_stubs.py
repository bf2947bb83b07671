"""kore-stubs name exactly what ``import kore`` has, and a type checker understands applications through them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from gkore import api

ROOT = Path(__file__).parents[1]
STUB = ROOT / "kore-stubs" / "__init__.pyi"


def load(path: Path, name: str) -> ModuleType:
    """A file as a module, whatever its suffix."""
    loader = SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def public(module: ModuleType) -> dict[str, object]:
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name != "annotations" and not isinstance(value, ModuleType)
    }


def test_the_stubs_are_those_that_the_script_makes() -> None:
    made = load(ROOT / "scripts" / "stubs", "stubs_script").stubs()
    assert STUB.read_text() == made, "run scripts/stubs"


def test_every_name_is_the_runtimes_object() -> None:
    stub, runtime = public(load(STUB, "kore_stub")), public(api)
    assert stub.keys() == runtime.keys()
    assert [name for name in stub if stub[name] is not runtime[name]] == []


def test_a_type_checker_sees_applications_through_them(tmp_path: Path) -> None:
    if not importlib.util.find_spec("mypy"):
        pytest.skip("mypy is not installed (pip install gkore[check])")
    (tmp_path / "good.py").write_text(
        "import kore\n\n\n@kore.route('/')\nasync def page(req: kore.http_request) -> None:\n"
        "    await kore.suspend(1)\n    req.response(200, 'hi')\n"
    )
    (tmp_path / "bad.py").write_text(
        "import kore\n\n\ndef page(req: kore.http_request) -> None:\n"
        "    req.respond(200)\n    kore.suspend('1')\n    kore.nothing()\n"
    )
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\nignore_missing_imports = True\n")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        "mypy.ini",
        "--follow-imports",
        "silent",
        "good.py",
        "bad.py",
    ]
    environment = {"MYPYPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    found = [line.split(":")[0:2] for line in done.stdout.splitlines() if ": error: " in line]
    assert found == [["bad.py", "5"], ["bad.py", "6"], ["bad.py", "7"]], done.stdout + done.stderr
