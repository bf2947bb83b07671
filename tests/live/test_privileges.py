"""What a handler can't do: read what is the master's, become somebody else, call what the sandbox forbids."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import Authority
from postgres import postgres
from server import DEADLINE, REPOSITORY, Server, until
from test_tls import ask, connected, context

Start = Callable[..., Server]
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

APP = """
import ctypes
import json
import mmap
import os
import socket
import subprocess
import threading
import kore

libc = ctypes.CDLL(None, use_errno=True)

def tried(action):
    try:
        return str(action())
    except BaseException as failure:
        return f"{type(failure).__name__} {getattr(failure, 'errno', '')}".strip()

def secrets(req):
    found = {path: tried(lambda: open(path).read()) for path in req.body.decode().split()}
    found["setuid"] = tried(lambda: os.setuid(0))
    found["groups"] = os.getgroups()
    found["privs"] = libc.prctl(39, 0, 0, 0, 0)
    req.response(200, json.dumps(found).encode())

def work(req):
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    found = {
        "lookup": tried(lambda: socket.getaddrinfo("localhost", 80)[0][4][0] in ("127.0.0.1", "::1")),
        "child": tried(lambda: subprocess.run(["/bin/echo", "hi"], capture_output=True).stdout),
        "file": tried(lambda: open("new", "w").write("x")),
        "connect": tried(lambda: socket.create_connection(("127.0.0.1", 1), 1)),
        "wx": tried(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),
        "kept": tried(lambda: os.mkdir("folder")),
    }
    req.response(200, json.dumps(found).encode())

def forbidden(req):
    libc.unshare(0)
    req.response(200, b"it went on")

def pid(req):
    req.response(200, str(os.getpid()).encode())
"""
CONF = (
    "domain * {\n"
    + "".join(
        f"    route /{name} {{\n        handler {name}\n    }}\n" for name in ("secrets", "work", "forbidden", "pid")
    )
    + "}\n"
)


@ROOT_ONLY
def test_a_handler_cannot_read_what_is_the_masters(server: Start, tmp_path: Path) -> None:
    for part in (tmp_path, *tmp_path.parents):
        if part != Path("/") and part.stat().st_uid == 0 and str(part).startswith("/tmp/"):
            part.chmod(part.stat().st_mode | 0o055)
    secret = tmp_path / "secret"
    secret.write_text("the key")
    secret.chmod(0o600)
    up = server(f"runas nobody\n{CONF}", app=APP)
    body = f"{secret} /etc/shadow /proc/{up.pid}/environ"
    found = json.loads(up.get("/secrets", "POST", body=body.encode()).body)
    assert {found[path] for path in body.split()} == {"PermissionError 13"}
    assert found["setuid"] == "PermissionError 1"
    assert 0 not in found["groups"]
    assert found["privs"] == 1


@ROOT_ONLY
def test_a_chroot_hides_the_rest(server: Start, tmp_path: Path) -> None:
    jail = tmp_path / "jail"
    jail.mkdir()
    (jail / "inside").write_text("inside")
    up = server(f"root {jail}\nrunas nobody\n{CONF}", app=APP)
    found = json.loads(up.get("/secrets", "POST", body=b"/inside /etc/passwd /../etc/passwd").body)
    assert found["/inside"] == "inside"
    assert found["/etc/passwd"] == found["/../etc/passwd"] == "FileNotFoundError 2"


PEAK = """
import resource
import kore

def peak(req):
    block = bytearray(200_000_000)
    block[::4096] = b"x" * len(block[::4096])
    del block
    req.response(200, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024).encode())
"""


@ROOT_ONLY
def test_in_a_chroot_memory_is_what_is_used_now(server: Start, tmp_path: Path) -> None:
    jail = tmp_path / "jail"
    jail.mkdir()
    up = server(f"root {jail}\ndomain * {{\n    route /peak peak\n}}\n", app=PEAK, workers=1)
    peak = int(up.get("/peak").text)
    assert peak > 200_000_000

    def used() -> tuple[int, int]:
        command = [sys.executable, "-m", "gkore", "status", "--json"]
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        [worker] = json.loads(subprocess.check_output(command, cwd=up.directory, env=env))["workers"]
        return worker["requests"], worker["rss"]

    until(lambda: used()[0] == 1 and 0 < used()[1] < peak - 100_000_000, lambda: f"{used()} beside {peak}")


def test_the_sandbox_lets_an_application_work(server: Start) -> None:
    up = server(f"seccomp yes\n{CONF}", app=APP)
    found = json.loads(up.get("/work").body)
    assert found == {
        "lookup": "True",
        "child": "b'hi\\n'",
        "file": "1",
        "connect": "ConnectionRefusedError 111",
        "wx": "PermissionError 13",
        "kept": "None",
    }


SERVICE = """
import json
import os
import kore

def kore_worker_configure():
    kore.dbsetup("db", os.environ["DSN"])

def plain(req):
    req.response(200, b"plain")

async def service(req):
    port, authority = req.body.decode().split()
    rows = await req.pgsql("db", "SELECT 40 + 2 AS answer")
    site = kore.httpclient(f"https://localhost:{port}/plain", cabundle=authority)  # looks the name up, too
    answer = await site.get()
    number = await kore.thread(sum, [1, 2, 3])
    req.response(200, json.dumps([rows[0]["answer"], answer[0], answer[1].decode(), number]).encode())
"""


def test_under_the_sandbox_a_service_with_tls_and_a_database_works(server: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", "root")
    cert, key = authority.issue("localhost")
    files = f"    certfile {cert}\n    certkey {key}\n"
    routes = "    route /plain plain\n    route /service service\n"
    conf = f"seccomp yes\nprivsep keymgr {{\n}}\ndomain localhost {{\n{files}{routes}}}\n"
    with postgres() as database:
        up = server(conf, app=SERVICE, env={"DSN": database.get_uri()})
        body = f"{up.port} {authority.cert}".encode()
        for _ in range(4):
            with connected(up, context(authority), "localhost") as sock:
                status, answer = ask(sock, "/service", "localhost", body)
                assert (status, json.loads(answer)) == (200, ["42", 200, "plain", 6]), up.log()
        assert "SIGSYS" not in up.log()
        up.stop()


def test_what_it_forbids_ends_the_worker(server: Start) -> None:
    up = server(f"seccomp yes\n{CONF}", app=APP, workers=1)
    before = up.get("/pid").text
    with pytest.raises((ConnectionError, OSError)):
        up.get("/forbidden")
    up.says("was killed by SIGSYS .a system call that the sandbox forbids")
    until(lambda: up.get("/pid").text != before, "the successor")


def test_tracing_only_notes_it(server: Start) -> None:
    up = server(f"seccomp_tracing yes\n{CONF}", app=APP, workers=1)
    assert up.get("/forbidden").text == "it went on"


HOOK = """
class Koreapp:
    def seccomp(self, sandbox):
        sandbox.allow("unshare")
        sandbox.deny("mkdir", errno=28)
        sandbox.deny_arg("socket", 0, 10, errno=97)
        sandbox.deny_mask("openat", 2, 0o1101, errno=30)
        try:
            sandbox.allow("no_such_call")
        except RuntimeError as failure:
            kore.log(kore.LOG_NOTICE, str(failure))

koreapp = Koreapp()
"""


def test_rules_of_the_application_come_first(server: Start) -> None:
    up = server(CONF, app=APP + HOOK)
    assert up.get("/forbidden").text == "it went on"
    found = json.loads(up.get("/work").body)
    assert (found["kept"], found["file"]) == ("OSError 28", "OSError 30")
    assert re.search(r"system call 'no_such_call' does not exist", up.log())


LANDLOCK = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) > 0
NEEDS_LANDLOCK = pytest.mark.skipif(not LANDLOCK, reason="this kernel has no Landlock")
REACH = """
import json
import subprocess
import kore

def tried(action):
    try:
        return str(action())
    except OSError as failure:
        return f"{type(failure).__name__} {failure.errno}"

def reach(req):
    found = {}
    for path in req.body.decode().split():
        found[f"read {path}"] = tried(lambda: open(path).read())
        found[f"write {path}"] = tried(lambda: open(path, "a").write("x"))
    req.response(200, json.dumps(found).encode())

async def child(req):
    proc = kore.proc(f"/bin/cat {req.body.decode()}")
    said = b""
    while piece := await proc.recv(1000):
        said += piece
    await proc.reap()
    req.response(200, repr(said).encode())

def late(req):
    import socket
    import sqlite3  # from the standard library, not imported so far
    import beside
    req.response(200, f"{beside.NAME} {socket.getaddrinfo('localhost', 80)[0][4][0]}".encode())
"""
LANDLOCK_CONF = """landlock yes
landlock_read {0}/readable
landlock_write {0}/writable
domain * {{
    accesslog {0}/logs/access.log
    route /reach reach
    route /child child
    route /late late
    filemap /files/ {0}/files
}}
"""


def landlocked(server: Start, directory: Path, more: str = "") -> Server:
    for name in ("readable", "writable", "logs", "files", "private"):
        (directory / name).mkdir()
        (directory / name / "file").write_text(name)
    return server(f"{more}{LANDLOCK_CONF.format(directory)}", app=REACH, workers=1)


@NEEDS_LANDLOCK
def test_landlock_keeps_a_handler_from_what_it_does_not_need(server: Start, tmp_path: Path) -> None:
    up = landlocked(server, tmp_path)
    (up.directory / "key.pem").write_text("the key")
    names = [f"{tmp_path}/{name}/file" for name in ("readable", "writable", "logs", "files", "private")]
    others = ["kore.conf", "key.pem", "app.py", f"/proc/{up.pid}/environ", "/etc/shadow"]
    found = json.loads(up.get("/reach", "POST", body=" ".join((*names, *others)).encode()).body)
    allowed = {name for name, outcome in found.items() if outcome != "PermissionError 13"}
    assert allowed == {
        f"read {names[0]}",
        f"read {names[1]}",
        f"write {names[1]}",
        f"read {names[3]}",
        "read app.py",
    }
    assert up.get("/files/file").text == "files"
    assert (tmp_path / "logs/access.log").exists()


SAY = """
import kore

def say(req):
    kore.log(kore.LOG_NOTICE, "here I am")
    req.response(200, b"")
"""
CONFINED = f"runas nobody\nseccomp yes\n{'landlock yes' if LANDLOCK else ''}\n"


@ROOT_ONLY
@pytest.mark.parametrize("privileges", [CONFINED, "root /usr/lib\n"], ids=["confined", "in a chroot"])
def test_rotated_logs_reach_workers_that_could_not_open_them(server: Start, tmp_path: Path, privileges: str) -> None:
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o700)
    log, access = logs / "gkore.log", logs / "access.log"
    routes = f"domain * {{\n    accesslog {access}\n    route /say say\n}}\n"
    up = server(f"{privileges}logfile {log}\n{routes}", app=SAY, ready=False)
    until(lambda: log.exists() and "log=[ready: " in log.read_text(), up.log)
    port = int(re.search(r"listening on http://\S*:(\d+) ", log.read_text())[1])
    for number in (1, 2):
        for file in (log, access):
            file.rename(file.with_suffix(f".{number}"))
        up.signal(signal.SIGUSR1)

        def both_write() -> bool:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
            client.request("GET", "/say")
            assert client.getresponse().status == 200
            client.close()
            return log.exists() and len(set(re.findall(r"proc=\[(wrk .)\] log=\[here I am", log.read_text()))) == 2

        until(both_write, "both workers in the new log")
        until(lambda: access.exists() and b"/say" in access.read_bytes(), "lines in the new access log")
    assert "can't be opened" not in "".join(file.read_text() for file in logs.glob("gkore.*"))


@NEEDS_LANDLOCK
def test_landlock_holds_for_what_a_handler_starts(server: Start, tmp_path: Path) -> None:
    up = landlocked(server, tmp_path)
    assert up.get("/child", "POST", body=f"{tmp_path}/readable/file".encode()).text == "b'readable'"
    assert "Permission denied" in up.get("/child", "POST", body=f"{tmp_path}/private/file".encode()).text


@NEEDS_LANDLOCK
def test_under_landlock_and_seccomp_an_application_works(server: Start, tmp_path: Path) -> None:
    up = landlocked(server, tmp_path, "seccomp yes\n")
    (up.directory / "beside.py").write_text("NAME = 'beside'\n")
    up.reload()  # a module that is new needs new rules
    assert up.get("/late").text in ("beside 127.0.0.1", "beside ::1")
    assert up.get("/child", "POST", body=f"{tmp_path}/readable/file".encode()).text == "b'readable'"
