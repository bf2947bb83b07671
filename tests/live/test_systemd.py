"""What systemd is told and what it hands over, with a fake manager; and its own judgement of the units."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from certificates import Authority
from server import DEADLINE, REPOSITORY, Server, until

Start = Callable[..., Server]

APP = """
import kore
def hello(req):
    req.response(200, b"hello")
def spin(req):
    while True:
        pass
"""
CONF = (
    "domain * {\n    route /hello {\n        handler hello\n    }\n    route /spin {\n        handler spin\n    }\n}\n"
)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(DEADLINE)
        yield sock


def words(manager: socket.socket, wanted: str) -> dict[str, str]:
    """The next message that has this field."""
    while True:
        fields = dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())
        if wanted in fields:
            return fields


def test_the_whole_life_is_told(server: Start, manager: socket.socket, tmp_path: Path) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    up = server(f"worker_drain_time 100\n{CONF}", app=APP, env=env)
    assert words(manager, "READY")["MAINPID"] == str(up.pid)
    for _ in range(3):
        assert words(manager, "WATCHDOG") == {"WATCHDOG": "1"}
    up.signal(signal.SIGHUP)
    assert int(words(manager, "RELOADING")["MONOTONIC_USEC"]) > 0
    assert words(manager, "READY")["MAINPID"] == str(up.pid)
    assert words(manager, "WATCHDOG")  # the new program goes on with it
    (up.directory / "app.py").write_text("def broken(:\n")
    up.signal(signal.SIGHUP)
    assert words(manager, "RELOADING")
    assert words(manager, "READY")["STATUS"].startswith("reload failed, nothing has changed")
    (up.directory / "app.py").write_text(f"{APP}\ndef kore_worker_configure():\n    kore.fatal('on purpose')\n")
    up.signal(signal.SIGHUP)
    assert words(manager, "RELOADING")
    assert words(manager, "READY")["STATUS"].startswith("given up, the old workers serve on")
    up.signal(signal.SIGTERM)
    assert words(manager, "STOPPING")
    assert int(words(manager, "EXTEND_TIMEOUT_USEC")["EXTEND_TIMEOUT_USEC"]) > 100_000_000


LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.executable, [sys.executable, "-m", "gkore", "-c", "kore.conf"])
"""


@pytest.mark.parametrize("name", ["default", "web"])
def test_sockets_from_systemd_survive_reloads(tmp_path: Path, name: str) -> None:
    (tmp_path / "app.py").write_text(APP)
    extra = "server web {\n    tls no\n}\nconfig_strict no\n" if name == "web" else ""
    (tmp_path / "kore.conf").write_text(f"workers 2\npython_import app.py\n{extra}{CONF}")
    with socket.create_server(("127.0.0.1", 0), backlog=500) as given, open(tmp_path / "log", "wb") as log:
        port = given.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(given.fileno()), name],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            pass_fds=[given.fileno()],
            stderr=log,
        )
    with ending(process):
        for times in (1, 2, 3):
            until(lambda times=times: said(tmp_path).count("log=[ready: ") == times, lambda: said(tmp_path))
            with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
                client.sendall(b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                assert client.recv(1000).endswith(b"hello")
            process.send_signal(signal.SIGHUP)


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Behind the block a server is stopped, in order; however the block ends, it has ended."""
    try:
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait()


def said(directory: Path) -> str:
    return (directory / "log").read_text()


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is not installed (Debian: apt-get install systemd): the units are NOT judged",
)
def test_the_units_are_right_and_tight(tmp_path: Path) -> None:
    for unit in (REPOSITORY / "etc").glob("gkore*.s*"):
        text = unit.read_text().replace("/usr/local/bin/gkore", sys.executable).replace("/etc/gkore\n", "/tmp\n")
        (tmp_path / unit.name.replace("@.", "@one.")).write_text(text)
    units = sorted(str(path) for path in tmp_path.glob("gkore*"))
    assert len(units) == 3
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "gkore" in line]
    assert ours == []
    command = ["systemd-analyze", "security", "--offline=yes", str(tmp_path / "gkore.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert float(re.search(r"exposure level for \S+ ([0-9.]+)", done.stdout)[1]) < 5, done.stdout


USED = """
runas nobody
logfile gkore.log
http_body_disk_offload 100
http_body_disk_path bodies
privsep keymgr {
    runas daemon
}
domain * {
    certfile cert.pem
    certkey key.pem
    accesslog access.log
    route /hello hello
}
"""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, and setpriv of util-linux")
def test_the_capabilities_of_the_unit_are_enough_for_a_second_start_too(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    unit = (REPOSITORY / "etc/gkore.service").read_text()
    kept = re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)[1].lower().replace("cap_", "+").split()
    cert, key = Authority(tmp_path, "ca").issue("one.test")
    cert.rename(tmp_path / "cert.pem")
    key.rename(tmp_path / "key.pem").chmod(0o600)
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "kore.conf").write_text(f"bind 127.0.0.1 0\nworkers 1\npython_import app.py\n{USED}")
    command = ["setpriv", "--no-new-privs", "--bounding-set", ",".join(("-all", *kept)), sys.executable, "-m", "gkore"]
    log = tmp_path / "gkore.log"

    def told() -> str:
        return log.read_text() if log.exists() else ""

    for start in (1, 2):
        words = [*command, "-c", "kore.conf"]
        process = subprocess.Popen(words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
        with ending(process):
            for times in (1, 2):
                until(lambda times=times: told().count("log=[ready: ") == times, told)
                process.send_signal(signal.SIGUSR1)
                if times == 1:
                    process.send_signal(signal.SIGHUP)
        assert not re.search("ermission|not permitted|failed", told()), told()
        for file in (log, tmp_path / "access.log"):
            file.rename(file.with_suffix(f".{start}"))


def test_the_journal_gets_priorities(tmp_path: Path) -> None:
    code = "from gkore import log; log.error('one\\ntwo'); log.info('three')"
    with open(tmp_path / "journal", "wb") as journal:
        found = os.fstat(journal.fileno())
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        subprocess.run([sys.executable, "-c", code], stderr=journal, env=env, check=True)
    assert [line[:3] for line in (tmp_path / "journal").read_text().splitlines()] == ["<3>", "<3>", "<6>"]


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        (
            "json",
            r'{"time": "[0-9T:.-]+Z", "level": "notice", "process": "parent", "text": "ready: 2 workers, .*"}',
        ),
        ("text", r"\d{4}-\d\d-\d\dT[0-9:.]+Z notice \[parent\] ready: 2 workers, .*"),
    ],
)
def test_shapes_of_the_log(server: Start, shape: str, line: str) -> None:
    up = server(f"log_format {shape}\n{CONF}", app=APP, ready=False)
    until(lambda: re.search(f"^{line}$", up.log(), re.MULTILINE), up.log)
