"""ARCHITECTURE.md is true: every file is in its list, and imports point down only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).parents[1]
LISTED = re.findall(r"^- `([\w/]+\.py)`", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
FILES = sorted(
    str(path.relative_to(ROOT)) for path in [*ROOT.glob("gkore/**/*.py"), ROOT / "kore.py"] if path.is_file()
)
PLACE = {file: number for number, file in enumerate(LISTED)}


def test_every_file_is_listed_once() -> None:
    assert [file for file in FILES if file not in LISTED] == []
    assert len(LISTED) == len(set(LISTED))


@pytest.mark.parametrize("file", FILES)
def test_imports_point_down(file: str) -> None:
    last = len(LISTED)  # a file that isn't listed fails the test above
    for target in imported_files(file, ROOT):
        assert PLACE.get(target, -1) < PLACE.get(file, last), f"{file} imports {target}, which stands after it"


@pytest.mark.parametrize("file", FILES)
def test_worker_and_master_are_strangers(file: str) -> None:
    strangers = {"worker": "master", "master": "worker"}.get(room_of(file))
    met = [target for target in imported_files(file, ROOT) if room_of(target) == strangers]
    assert strangers is None or met == []


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith("gkore/worker/")])
def test_only_the_worker_imports_gevent(file: str) -> None:
    assert not {"gevent", "greenlet"} & {module.partition(".")[0] for module in imported_modules(ROOT / file)}


PATCHED = {"close", "fork", "forkpty", "posix_spawn", "posix_spawnp", "waitpid"}
"""Names of ``os`` that gevent replaces by ones that tell the hub, or wait for its turn: ``posix`` has the real ones."""


@pytest.mark.parametrize("file", FILES)
def test_nobody_closes_or_forks_by_the_patched_names(file: str) -> None:
    taken = {node.attr for node in ast.walk(ast.parse((ROOT / file).read_text())) if is_of_os(node)}
    imported = {module.partition(".")[2] for module in imported_modules(ROOT / file) if module.startswith("os.")}
    assert not PATCHED & (taken | imported)


def is_of_os(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"


def room_of(file: str) -> str:
    parts = file.split("/")
    return parts[1] if len(parts) > 2 else ""


def imported_modules(path: Path) -> Iterator[str]:
    """Every module and every ``module.name`` that a file imports, wherever in it, except for type checking."""
    for node in running_code(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively: say the whole name"
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)


def running_code(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from running_code(node)


def imported_files(file: str, root: Path) -> set[str]:
    """The files of gkore that ``file`` imports."""
    found = set()
    for module in imported_modules(root / file):
        for target in (module.replace(".", "/") + ".py", module.replace(".", "/") + "/__init__.py"):
            if module.partition(".")[0] in ("gkore", "kore") and (root / target).is_file():
                found.add(target)
    return found - {file}


def test_the_reader_of_imports_sees_them_everywhere(tmp_path: Path) -> None:
    package = tmp_path / "gkore"
    package.mkdir()
    for name in ("errors", "log", "never"):
        (package / f"{name}.py").write_text("")
    (package / "page.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "from gkore import log\n"
        "if TYPE_CHECKING:\n    from gkore import never\n"
        "def late():\n    import gkore.errors\n"
    )
    assert imported_files("gkore/page.py", tmp_path) == {"gkore/log.py", "gkore/errors.py"}
