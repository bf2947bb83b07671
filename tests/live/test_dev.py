"""``gkore run`` as a developer sees it: reload on change, the old code while the new one is broken, tracebacks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from development import APP, ENVIRONMENT, Run, running
from server import until

from gkore.develop import warming


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    (tmp_path / "app.py").write_text(APP.format(text="first"))
    with running(tmp_path) as started:
        started.ready()
        yield started


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


def test_a_first_start_that_fails_waits_for_the_mend(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import nothing_of_that_name\n")
    with running(tmp_path) as run:
        until(lambda: "nothing is served yet" in run.log(), run.log)
        assert "app.py:1:1: error: ModuleNotFoundError" in run.log()
        assert "browsers are shown it" not in run.log(), "no address is known, and none is guessed"
        (tmp_path / "app.py").write_text(APP.format(text="mended"))
        run.ready()
        assert run.get("/") == (200, "mended")


def test_no_request_is_refused_while_masters_change(run: Run) -> None:
    """The sockets are handed over: pidfile, control socket and UNIX address stay, too."""
    conf = "bind_unix served.sock\npidfile pid\npython_import app.py\n"
    (run.directory / "kore.conf").write_text(conf)
    (run.directory / "app.py").write_text(
        "import kore\nkore.domain('*')\n@kore.route('/')\ndef page(req):\n    req.response(200, 'first')\n"
    )
    assert run.stop() == 0, run.log()
    with running(run.directory, "-c", "kore.conf") as again:
        again.ready()
        served, pid = run.directory / "served.sock", run.directory / "pid"
        inode, first = served.stat().st_ino, pid.read_text()
        answers = {said(served)}
        (run.directory / "app.py").write_text((run.directory / "app.py").read_text().replace("first", "second"))
        until(lambda: answers.add(said(served)) or "second" in answers, again.log)
        assert answers == {"first", "second"}
        until(lambda: pid.exists() and pid.read_text() != first, again.log)
        until(lambda: not Path(f"/proc/{first.strip()}").exists(), again.log)
        assert served.stat().st_ino == inode
        command = [sys.executable, "-m", "gkore", "reload", "-c", "kore.conf"]
        done = subprocess.run(
            command, cwd=run.directory, env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.returncode, done.stdout.startswith("ready: 1 worker")) == (0, True), done.stderr
        assert said(served) == "second"
    assert not served.exists()
    assert not pid.exists()


def said(path: Path) -> str:
    """The answer to one request on a UNIX socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        data = b"".join(iter(lambda: client.recv(4096), b""))
    return data.rpartition(b"\r\n\r\n")[2].decode()


def test_a_package_that_leaves_something_open_is_not_warmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("calm", ""), ("busy", "import os\nkept = os.open(os.devnull, os.O_RDONLY)\n")):
        (tmp_path / f"gkore_test_{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(warming, "installed_folders", lambda: ("/",))
    names = ["gkore_test_calm", "gkore_test_busy", "gkore_test_absent"]
    before = dict(os.environ)
    assert warming.warm(names, {**before, "GKORE_TEST": "1"}) == ["gkore_test_calm"]
    assert dict(os.environ) == before
    assert "gkore_test_busy" not in sys.modules
    del sys.modules["gkore_test_calm"]


def test_a_project_is_not_warmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gkore_test_project.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(warming, "installed_folders", lambda: (f"{tmp_path}/elsewhere/",))
    assert warming.warm(["gkore_test_project"], {}) == []


def test_production_says_nothing(tmp_path: Path) -> None:
    from server import server

    with server(tmp_path, script=APP.format(text="x"), workers=1, tracebacks=True) as up:
        answer = up.get("/broken")
        assert (answer.status, answer.body) == (500, b"")
