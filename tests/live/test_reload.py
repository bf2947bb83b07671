"""SIGHUP and ``gkore reload``: conf, code and certificates are read again, the pid stays, and no request fails."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from server import DEADLINE, REPOSITORY, Server, until

from gkore import remote
from gkore.errors import StartError, Unanswered
from gkore.remote import COMMANDS
from gkore.testing.server import search_path

Start = Callable[..., Server]

APP = """
import os
import kore

def pid(req):
    req.response(200, b"%d" % os.getpid())

def version(req):
    req.response(200, b"first")
"""
CONF = """
domain * {
    route /pid {
        handler pid
    }
    route /version {
        handler version
    }
}
"""


def rewrite(path: Path, old: str, new: str) -> None:
    """A change of another length: Python compares a cached module by its length and its age in whole seconds."""
    assert len(old) != len(new)
    path.write_text(path.read_text().replace(old, new))


def gkore(up: Server, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gkore", *words],
        cwd=up.directory,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def reload(up: Server, times: int) -> None:
    up.signal(signal.SIGHUP)
    up.ready(times)


def load(up: Server, done: threading.Event, keep_alive: bool, failures: list[str]) -> int:
    """Ask until ``done``; with keep-alive a server may close between two requests, which it announces."""
    served = 0
    while not done.is_set():
        client = http.client.HTTPConnection("127.0.0.1", up.port, timeout=DEADLINE)
        try:
            while not done.is_set():
                client.request("GET", "/pid", headers={} if keep_alive else {"connection": "close"})
                answer = client.getresponse()
                answer.read()
                served += 1
                if answer.status != 200:
                    failures.append(str(answer.status))
                if answer.will_close:
                    break
        except (OSError, http.client.HTTPException) as failure:
            failures.append(repr(failure))
        finally:
            client.close()
    return served


def test_no_request_fails_while_everything_is_replaced(server: Start) -> None:
    up = server(CONF, app=APP)
    before = up.workers
    done = threading.Event()
    failures: list[str] = []
    threads = [threading.Thread(target=load, args=(up, done, n % 2, failures)) for n in range(6)]
    for thread in threads:
        thread.start()
    try:
        for times in (2, 3, 4):
            reload(up, times)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
    until(lambda: not set(before) & set(up.workers), "the old workers have left")


def test_code_and_conf_are_read_again_and_the_pid_stays(server: Start) -> None:
    up = server(CONF, app=APP, workers=0, arguments=["--workers", "2"])
    assert up.get("/version").text == "first"
    rewrite(up.directory / "app.py", "first", "the second")
    rewrite(up.directory / "kore.conf", "route /version", "route /elsewhere")
    reload(up, 2)
    assert up.get("/elsewhere").text == "the second"
    assert up.get("/version").status == 404
    assert not up.ended


def test_the_number_of_workers_follows_the_conf(server: Start) -> None:
    up = server("workers 1\n" + CONF, app=APP, workers=0)
    rewrite(up.directory / "kore.conf", "workers 1", "workers  3")
    reload(up, 2)
    until(lambda: len(up.workers) == 3, "three workers")
    rewrite(up.directory / "kore.conf", "workers  3", "workers 1")
    reload(up, 3)
    until(lambda: len(up.workers) == 1, "one worker")
    assert {up.get("/pid").text for _ in range(40)} == {str(up.workers[0])}  # all slots' sockets are served by it


def test_addresses_come_and_go(server: Start) -> None:
    up = server(f"bind_unix web.sock\nbind 127.0.0.1 0\n{CONF}", app=APP)
    conf = up.directory / "kore.conf"
    rewrite(conf, "bind_unix web.sock", "bind_unix other.sock")
    reload(up, 2)
    until(lambda: not (up.directory / "web.sock").exists(), "the old socket is gone")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE)
        client.connect(str(up.directory / "other.sock"))
        client.sendall(b"GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert up.get("/version").text == "first"


@pytest.mark.parametrize(("file", "text"), [("app.py", "\ndef broken(:\n"), ("kore.conf", "\nworkres 7\n")])
def test_what_is_broken_changes_nothing(server: Start, file: str, text: str) -> None:
    up = server(CONF, app=APP, tracebacks=True)
    before = up.workers
    good = (up.directory / file).read_text()
    (up.directory / file).write_text(good + text)
    up.signal(signal.SIGHUP)
    up.says("reload failed, nothing has changed")
    assert up.workers == before
    assert up.get("/version").text == "first"
    (up.directory / file).write_text(good)
    (up.directory / "app.py").write_text(APP.replace("first", "mended"))
    reload(up, 2)
    assert up.get("/version").text == "mended"


def test_an_address_in_use_changes_nothing(server: Start) -> None:
    up = server(CONF, app=APP)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        conf = up.directory / "kore.conf"
        conf.write_text(f"bind 127.0.0.1 {taken.getsockname()[1]}\n{conf.read_text()}")
        up.signal(signal.SIGHUP)
        up.says("reload failed, nothing has changed")
    assert "the address is in use" in up.log()
    assert up.get("/version").text == "first"


def test_an_access_log_that_can_t_be_opened_changes_nothing(server: Start) -> None:
    up = server(CONF, app=APP)
    conf = up.directory / "kore.conf"
    (up.directory / "a.log").symlink_to("missing/a.log")
    conf.write_text(conf.read_text().replace("domain * {", "domain * {\n    accesslog a.log", 1))
    up.signal(signal.SIGHUP)
    up.says("reload failed, nothing has changed")
    assert "accesslog a.log can't be opened: No such file or directory" in up.log()
    assert "half way" not in up.log()
    assert up.get("/version").text == "first"


def test_a_failure_beyond_the_rehearsal_keeps_the_old_workers(server: Start) -> None:
    app = APP + "\nimport pathlib\ndef kore_parent_configure(args):\n    assert not pathlib.Path('fail').exists()\n"
    up = server(CONF, app=app, tracebacks=True)
    before = up.workers
    (up.directory / "fail").touch()
    up.signal(signal.SIGHUP)
    up.says("the old workers serve on")
    assert up.workers == before
    assert up.get("/version").text == "first"
    (up.directory / "fail").unlink()
    reload(up, 2)
    until(lambda: not set(before) & set(up.workers), "the old workers have left")
    assert up.get("/version").text == "first"


def test_a_stop_while_old_workers_are_held(server: Start) -> None:
    app = APP + "\nimport pathlib\ndef kore_parent_configure(args):\n    assert not pathlib.Path('fail').exists()\n"
    up = server(CONF, app=app, tracebacks=True)
    (up.directory / "fail").touch()
    up.signal(signal.SIGHUP)
    up.says("the old workers serve on")
    assert up.stop() == 0


HOLD = """
import os
import time

while "GKORE_HERITAGE" in os.environ and os.path.exists("hold"):
    time.sleep(0.01)
"""


def test_signals_that_come_during_a_reload_are_kept(server: Start, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HOLD)
    up = server(CONF, app=APP, workers=1, env={"PYTHONPATH": f"{tmp_path}:{search_path()}"})
    (up.directory / "hold").touch()
    up.signal(signal.SIGHUP)
    until(lambda: blocked(up.pid), "the new program to begin")
    up.signal(signal.SIGTTIN)
    (up.directory / "hold").unlink()
    until(lambda: len(up.workers) == 2 and up.log().count("log=[ready: ") >= 2, up.log)
    assert up.get("/version").text == "first"


def blocked(pid: int) -> bool:
    """Between ``exec`` and the moment when the new program can note signals."""
    fields = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(fields["SigBlk"], 16) & 1 << signal.SIGHUP - 1)


def test_a_script_is_reloaded(server: Start) -> None:
    script = APP + 'kore.server(ip="127.0.0.1", port="0", tls=False)\nkore.domain("*").route("/version", version)\n'
    up = server(script=script)
    assert up.get("/version").text == "first"
    rewrite(up.directory / "script.py", "first", "the second")
    reload(up, 2)
    assert up.get("/version").text == "the second"


def test_a_daemon_is_reloaded(server: Start) -> None:
    up = server(f"pidfile server.pid\nlogfile gkore.log\n{CONF}", app=APP, ready=False, arguments=["-d"])
    assert up.ends() == 0
    daemon = int((up.directory / "server.pid").read_text())
    log = up.directory / "gkore.log"
    try:
        os.kill(daemon, signal.SIGHUP)
        until(lambda: log.read_text().count("log=[ready: ") == 2, log.read_text)
        assert int((up.directory / "server.pid").read_text()) == daemon
        os.kill(daemon, signal.SIGTERM)
        until(lambda: "log=[stopped]" in log.read_text(), log.read_text)
    except AssertionError:
        os.killpg(os.getpgid(daemon), signal.SIGKILL)
        raise


# -- the control socket ------------------------------------------------------------------------------------------------


def test_reload_waits_for_the_outcome(server: Start) -> None:
    up = server(CONF, app=APP)
    done = gkore(up, "reload", "-c", "kore.conf")
    assert (done.returncode, done.stdout) == (0, f"ready: 2 workers, pid {up.pid}\n")
    (up.directory / "app.py").write_text("def broken(:\n")
    done = gkore(up, "reload")
    assert done.returncode == 3
    assert "app.py does not import: SyntaxError" in done.stderr


def test_reload_fails_when_the_new_workers_do_not_start(server: Start) -> None:
    up = server(CONF, app=APP, tracebacks=True)
    before = up.workers
    (up.directory / "app.py").write_text(f"{APP}\ndef kore_worker_configure():\n    raise ValueError('on purpose')\n")
    done = gkore(up, "reload")
    assert done.returncode == 3
    assert "ValueError: on purpose" in done.stderr
    assert "before it was ready, 3 times in a row\ngiven up, the old workers serve on" in done.stderr
    assert up.workers == before
    (up.directory / "app.py").write_text(APP)
    assert gkore(up, "reload").returncode == 0


def test_reload_fails_when_the_new_workers_hang_at_their_start(server: Start) -> None:
    up = server(f"worker_boot_time 1\n{CONF}", app=APP)
    before = up.workers
    (up.directory / "app.py").write_text(f"{APP}\ndef kore_worker_configure():\n    os.read(os.pipe()[0], 1)\n")
    done = gkore(up, "reload")
    assert done.returncode == 3
    assert "was killed: it was not ready within 1 s (worker_boot_time), 3 times in a row\ngiven up" in done.stderr
    assert re.search(r'File ".*app.py", line \d+ in kore_worker_configure', up.log())
    assert up.workers == before


def test_reload_says_what_failed_half_way(server: Start) -> None:
    up = server(CONF, app=APP, tracebacks=True)
    (up.directory / "app.py").write_text(f"{APP}\ndef kore_parent_configure(args):\n    raise ValueError('a')\n")
    done = gkore(up, "reload")
    assert done.returncode == 3
    assert done.stderr.startswith("parent_configure raised:\nTraceback")
    assert "\nValueError: a\nreload failed half" in done.stderr


def test_stop_waits_for_the_end(server: Start) -> None:
    up = server(CONF, app=APP)
    assert gkore(up, "stop").returncode == 0
    assert up.ends() == 0
    done = gkore(up, "stop")
    assert done.returncode == 3
    assert "no gkore answers" in done.stderr


def test_a_stopped_server_is_not_waited_for(server: Start) -> None:
    up = server(CONF, app=APP, workers=1)
    up.signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor() as together:
            every = list(together.map(lambda command: gkore(up, command), COMMANDS))
    finally:
        up.signal(signal.SIGCONT)
    for done in every:
        assert done.returncode == 3
        assert done.stderr.endswith(f"kore.control is stopped: `kill -CONT {up.pid}` lets it go on\n")
    until(lambda: up.ended, "the end, which one of them has asked for")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_hangs_is_not_waited_for(tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PATIENCE", 0.0)
    monkeypatch.setattr(remote, "TURN", 0.1)
    monkeypatch.setattr(remote, "SILENCE_MAX", {"reload": 0.5, "stop": 0.5})
    path = str(tmp_path / "kore.control")
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(path)
        deaf.listen(1)
        with pytest.raises(Unanswered, match=f"(pid {os.getpid()}|others wait for it).*`kill -KILL` to its pid"):
            remote.ask(path, command)


def test_a_reload_is_waited_for_while_the_server_shows_life(server: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PATIENCE", 0.0)
    monkeypatch.setattr(remote, "TURN", 0.05)
    monkeypatch.setattr(remote, "SILENCE_MAX", {"reload": 30.0})
    up = server(CONF, app=APP)
    (up.directory / "app.py").write_text(f"import time\ntime.sleep(1)\n{APP}")
    assert remote.ask(str(up.directory / "kore.control"), "reload")["text"] == f"ready: 2 workers, pid {up.pid}"


def test_the_socket_is_found_from_elsewhere_through_includes_and_variables(
    server: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOCKET_NAME", "here.sock")
    conf = tmp_path / "kore.conf"
    conf.write_text("bind 127.0.0.1 0\ninclude more.conf\n")
    (tmp_path / "more.conf").write_text("control $SOCKET_NAME\n")
    up = server(conf)
    assert not Path("here.sock").exists()
    (up.directory / "here.sock").rename(tmp_path / "here.sock")
    assert remote.ask(remote.path_of(str(conf), ""), "status")["pid"] == up.pid
    monkeypatch.delenv("SOCKET_NAME")
    with pytest.raises(StartError, match=r"more.conf:1.*SOCKET_NAME is not set, or say --control PATH"):
        remote.path_of(str(conf), "")


def test_the_control_socket_is_the_owners(server: Start) -> None:
    up = server(f"control here.sock\n{CONF}", app=APP)
    assert (up.directory / "here.sock").stat().st_mode & 0o777 == 0o600
    assert gkore(up, "status", "-c", "kore.conf").returncode == 0
    up.stop()
    assert not (up.directory / "here.sock").exists()
