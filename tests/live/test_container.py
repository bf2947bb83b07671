"""gkore as process 1, as in a container: it collects whatever ends, and still knows how its own helpers ended."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from certificates import Authority
from server import REPOSITORY, until

CONF = """\
server web {{
    bind 127.0.0.1 0
    tls no
}}
server safe {{
    bind 127.0.0.1 0
}}
deployment docker
workers 1
privsep keymgr {{
    skip chroot
}}
python_import app.py
domain * {{
    attach web
    route / page
}}
domain one.test {{
    attach safe
    certfile {cert}
    certkey {key}
    route / page
}}
"""
APP = """\
import subprocess

def page(req):
    subprocess.run(["sh", "-c", "sleep 0.1 &"])
    req.response(200, "{text}")
"""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
def test_reloads_as_process_1(tmp_path: Path) -> None:
    cert, key = Authority(tmp_path / "ca", "root").issue("one.test")
    (tmp_path / "kore.conf").write_text(CONF.format(cert=cert, key=key))
    app, log = tmp_path / "app.py", tmp_path / "log"
    app.write_text(APP.format(text="old"))
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command = [*alone, sys.executable, "-m", "gkore", "-r", "-c", "kore.conf"]
    with log.open("wb") as stream:
        outer = subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stdout=stream, stderr=stream
        )
    try:
        until(lambda: "ready: 1 worker, pid 1]" in log.read_text(), log.read_text)
        master = int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text())
        found = re.search(r"listening on (http://\S+)", log.read_text())
        assert found is not None

        def said() -> str:
            with urllib.request.urlopen(found[1], timeout=20) as answer:
                text: str = answer.read().decode()
            return text

        assert said() == "old"
        app.write_text("import nothing_of_that_name\n")
        os.kill(master, signal.SIGHUP)
        until(lambda: "reload failed, nothing has changed" in log.read_text(), log.read_text)
        assert "ModuleNotFoundError: No module named 'nothing_of_that_name'" in log.read_text()
        for times, text in ((2, "newer"), (3, "newest")):
            app.write_text(APP.format(text=text))
            os.kill(master, signal.SIGHUP)
            until(lambda times=times: log.read_text().count("log=[ready: ") == times, log.read_text)  # type: ignore[misc]
            until(lambda text=text: said() == text, log.read_text)  # type: ignore[misc]
        keeper = re.findall(r"key manager \(pid (\d+)\)", log.read_text())[-1]
        until(lambda: inner(master, keeper), "the key manager")
        os.kill(inner(master, keeper), signal.SIGKILL)
        until(lambda: f"the key manager (pid {keeper}) was killed by SIGKILL" in log.read_text(), log.read_text)
        os.kill(master, signal.SIGTERM)
        assert outer.wait(30) == 0, log.read_text()
    finally:
        outer.kill()
        outer.wait()


def inner(master: int, pid: str) -> int:
    """A child of ``master`` by the pid that it has inside of the container; 0 when there is none."""
    for child in Path(f"/proc/{master}/task/{master}/children").read_text().split():
        status = Path(f"/proc/{child}/status").read_text()
        if re.search(rf"^NSpid:\s.*\s{pid}$", status, re.MULTILINE):
            return int(child)
    return 0
