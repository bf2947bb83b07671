"""What is uploaded: a wheel and an sdist that hold what they must and nothing else."""

from __future__ import annotations

import configparser
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "import setuptools.build_meta as b, sys; to = sys.argv[1]; b.build_wheel(to); b.build_sdist(to)"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and sdist, made from a copy so that nothing is left in the checkout."""
    pytest.importorskip("setuptools", minversion="70.1")
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: git says which files belong to it")
    source, target = tmp_path_factory.mktemp("source") / "gkore", tmp_path_factory.mktemp("built")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    names = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    assert names, listed.stderr
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(target)], cwd=source, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return target


def test_the_wheel_holds_the_packages_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {str(path.relative_to(ROOT)) for path in ROOT.glob("gkore/**/*.py")}
    assert code | {"kore.py", "gkore/py.typed", "kore-stubs/__init__.pyi"} == {
        name for name in names if ".dist-info/" not in name
    }
    (entries,) = [name for name in names if name.endswith("entry_points.txt")]
    parsed = configparser.ConfigParser()
    parsed.read_string(zipfile.ZipFile(wheel).read(entries).decode())
    assert dict(parsed["console_scripts"]) == {"gkore": "gkore.cli:main"}
    assert dict(parsed["pytest11"]) == {"gkore": "gkore.pytest_plugin"}


def test_the_sdist_holds_what_a_packager_needs(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    needed = {"LICENSE", "README.md", "setup.cfg", "pyproject.toml", "kore.py", "gkore/cli.py", "etc/kore.conf"}
    needed |= {"tests/test_packaging.py", "docs/tutorial.md", "examples/README.md", "CHANGELOG.md", "mkdocs.yml"}
    assert needed - names == set()
    assert [name for name in names if "__pycache__" in name or name.startswith(".")] == []


def test_the_description_is_what_pypi_takes(built: Path) -> None:
    if not importlib.util.find_spec("twine"):
        pytest.skip("twine is not installed (pip install gkore[check])")
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_extras_are_named_where_they_are_asked_for() -> None:
    parsed = configparser.ConfigParser()
    parsed.read(ROOT / "setup.cfg")
    extras = set(parsed["options.extras_require"])
    text = "".join(path.read_text() for path in [*ROOT.glob("gkore/**/*.py"), *ROOT.glob("docs/**/*.md")])
    asked = {name for name in ("acme", "curl", "dev", "docs", "otel", "redis") if f"gkore[{name}]" in text}
    assert asked <= extras
