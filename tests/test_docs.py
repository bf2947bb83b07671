"""Nothing in the documentation is untested: every block of every page is run, every link leads somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import DEADLINE, ROOT, Block, Session, blocks, matches
from websockets.sync.client import connect

PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("examples/")])
def test_every_block_of_a_page_does_what_the_page_says(name: str, tmp_path: Path) -> None:
    session = Session(tmp_path)
    try:
        for block in blocks(ROOT / name):
            session.run(block)
        session.stop()
    finally:
        session.close()


def test_the_chat_of_the_readme_talks(tmp_path: Path) -> None:
    session = Session(tmp_path)
    (source,) = [block for block in blocks(ROOT / "README.md") if block.file == "chat.py"]
    session.run(source)
    session.serve("README.md", "gkore --workers 2 chat.py", [])
    url = f"ws://127.0.0.1:{session.port}/chat"
    with connect(url, open_timeout=DEADLINE) as one, connect(url, open_timeout=DEADLINE) as other:
        assert [one.recv(DEADLINE), other.recv(DEADLINE)] == ["welcome", "welcome"]
        one.send("hi")
        assert other.recv(DEADLINE) == "hi"
    session.stop()


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files(name: str) -> None:
    page = ROOT / name
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in link and link[0] != "#"]
    assert [link for link in links if not (page.parent / link.partition("#")[0]).exists()] == []


def test_what_pages_quote_of_the_repository_stands_there() -> None:
    unit = set((ROOT / "etc/gkore.service").read_text().splitlines())
    (quoted,) = [block for block in blocks(ROOT / "docs/howto/systemd.md") if block.language == "ini"]
    assert set(quoted.text.splitlines()[1:]) <= unit
    (image,) = [block for block in blocks(ROOT / "docs/howto/docker.md") if block.language == "dockerfile"]
    assert image.text.partition("\n")[2] == (ROOT / "examples/docker/Dockerfile").read_text()


def test_every_difference_from_kore_names_a_test_that_exists() -> None:
    page = (ROOT / "docs/kore-differences.md").read_text()
    rows = [row.strip("|").split("|") for row in page.splitlines() if row.startswith("|")]
    rows = [row for row in rows if row[-1].strip(" -") not in ("", "Test")]
    assert len(rows) > 100
    for row in rows:
        folder = ROOT
        for name in re.findall(r"`([^`]+)`", row[-1]):
            folder = folder if "/" not in name else (ROOT / name).parent
            path = ROOT / name if "/" in name else folder / name
            assert path.exists(), f"{row[0].strip()}: there is no {path.relative_to(ROOT)}"


def test_every_page_has_its_place_in_the_navigation() -> None:
    listed = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert {str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")} == listed


def test_a_wrong_page_is_noticed(tmp_path: Path) -> None:
    session = Session(tmp_path)
    session.run(Block("x", "console", "$ echo one\none\n$ printf 'a\\nb\\nc\\n'\na\n...\n"))
    with pytest.raises(AssertionError, match="echo one"):
        session.run(Block("x", "console", "$ echo one\ntwo\n"))
    with pytest.raises(AssertionError, match="neither a file nor a session"):
        session.run(Block("x", "python", "nothing = 1\n"))
    assert not matches(["a", "c"], ["a", "b", "c"])
    assert matches(["a...z", "...", "c"], ["abcz", "b", "b", "c"])


def test_the_reference_is_the_one_that_the_script_makes() -> None:
    command = [sys.executable, "-c", "import runpy; print(runpy.run_path('scripts/reference')['page'](), end='')"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert (ROOT / "docs/reference/kore.md").read_text() == done.stdout, "run scripts/reference"


def test_mkdocs_builds_the_pages_without_a_warning(tmp_path: Path) -> None:
    if not shutil.which("mkdocs", path=str(Path(sys.executable).parent)):
        pytest.skip("mkdocs is not installed (pip install gkore[docs])")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "site" / "index.html").is_file()
