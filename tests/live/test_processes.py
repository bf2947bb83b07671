"""Master and workers, through the real CLI: what dies, stops, is renewed, and that no request is lost by it."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from server import DEADLINE, Server, until

Start = Callable[..., Server]
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

APP = """
import os
import kore

def pid(req):
    req.response(200, str(os.getpid()).encode())

async def slow(req):
    kore.log(kore.LOG_INFO, "slow has begun")
    await kore.suspend(300)
    req.response(200, b"slow has finished")

def who(req):
    req.response(200, f"{os.getuid()} {os.getgid()} {os.getcwd()}".encode())
"""
CONF = """
domain * {
    route /pid {
        handler pid
    }
    route /slow {
        handler slow
    }
    route /who {
        handler who
    }
}
"""


def together(functions: list[Callable[[], object]]) -> None:
    """Run all at once and pass on what any of them raises."""
    failures: list[BaseException] = []

    def guarded(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


# -- deaths ------------------------------------------------------------------------------------------------------------


def test_what_waits_in_a_killed_workers_queue_is_served_by_its_successor(server: Start) -> None:
    up = server(CONF, app=APP, workers=1)
    [worker] = up.workers
    os.kill(worker, signal.SIGSTOP)  # it accepts nothing now: every connection waits in its slot's queue
    clients = []
    for _ in range(100):
        clients.append(socket.create_connection(("127.0.0.1", up.port), DEADLINE))
        clients[-1].sendall(b"GET /pid HTTP/1.1\r\nhost: x\r\n\r\n")
    os.kill(worker, signal.SIGKILL)
    answers = []
    for client in clients:
        with client:
            answers.append(client.recv(1000))
    [successor] = up.workers
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    assert {answer.rpartition(b"\r\n")[2] for answer in answers} == {str(successor).encode()}


@dataclass
class Client:
    """Asks on connections of three requests each, and remembers what went wrong on whose connection."""

    up: Server
    served: int = 0
    refused: int = 0
    lost: list[str] = field(default_factory=list)
    """The worker on whose connection a request was lost, "" when it had not answered on it before."""

    def ask(self, stop: Callable[[], bool]) -> None:
        while not stop():
            worker = ""
            client = http.client.HTTPConnection("127.0.0.1", self.up.port, timeout=DEADLINE)
            try:
                for _ in range(3):
                    client.request("GET", "/pid")
                    worker = client.getresponse().read().decode()
                    self.served += 1
            except ConnectionRefusedError:
                self.refused += 1
            except (OSError, http.client.HTTPException):
                self.lost.append(worker)
            finally:
                client.close()


def test_kill_9_under_load_loses_only_what_the_dead_had_in_hand(server: Start) -> None:
    up = server(CONF, app=APP, workers=2)
    clients = [Client(up) for _ in range(16)]
    killed: list[str] = []

    def kill() -> None:
        for count in range(1, 6):
            before = sum(client.served for client in clients)
            until(lambda before=before: sum(client.served for client in clients) > before + 100, "load")
            killed.append(str(up.workers[0]))
            os.kill(int(killed[-1]), signal.SIGKILL)
            until(lambda count=count: up.log().count(") is ready") == 2 + count, up.log)

    done = threading.Event()
    together([*[lambda client=client: client.ask(done.is_set) for client in clients], lambda: (kill(), done.set())])
    assert sum(client.refused for client in clients) == 0
    assert {worker for client in clients for worker in client.lost} <= {"", *killed}
    # A client has one connection at a time: a death can cost it one request, not two.
    assert max(len(client.lost) for client in clients) <= len(killed)


def test_policy_terminate(server: Start) -> None:
    up = server(f"worker_death_policy terminate\n{CONF}", app=APP, status=1)
    os.kill(up.workers[0], signal.SIGKILL)
    assert up.ends() == 1
    assert "worker_death_policy terminate" in up.log()


def test_a_worker_that_cannot_be_configured_ends_the_start_with_its_traceback(server: Start) -> None:
    app = APP + "\ndef kore_worker_configure():\n    raise ValueError('no database')\n"
    up = server(CONF, app=app, ready=False, tracebacks=True, status=3)
    assert up.ends() == 3
    assert re.search(r"proc=\[wrk \d\] log=\[ValueError: no database\]", up.log())
    assert 'app.py", line' in up.log()
    assert "3 times in a row: giving up" in up.log()
    assert up.log().count("ValueError: no database]") <= 6


def test_workers_leave_when_the_master_is_killed(server: Start) -> None:
    up = server(CONF, app=APP, status=-signal.SIGKILL)
    up.signal(signal.SIGKILL)
    up.ends()
    until(lambda: not up.processes(), "the workers have left")


# -- stopping and renewal ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
@pytest.mark.parametrize("group", [False, True], ids=["master", "group"])
def test_a_stop_finishes_the_request_in_flight(server: Start, number: signal.Signals, group: bool) -> None:
    up = server(CONF, app=APP)
    got: list[str] = []

    def stop() -> None:
        up.says("slow has begun")
        (os.killpg if group else os.kill)(up.pid, number)  # a terminal's Ctrl-C reaches the workers too

    together([lambda: got.append(up.get("/slow").text), stop])
    assert got == ["slow has finished"]
    assert up.ends() == 0


def test_hup_renews_the_workers_and_no_request_fails(server: Start) -> None:
    up = server(CONF, app=APP)
    before = up.workers
    done = threading.Event()
    answers: list[int] = []

    def ask() -> None:
        while not done.is_set():
            answers.append(up.get("/pid").status)

    def renew() -> None:
        for times in (2, 3, 4):
            up.signal(signal.SIGHUP)
            up.ready(times)
        done.set()

    together([*[ask] * 8, renew])
    assert set(answers) == {200}
    until(lambda: len(up.workers) == 2, "the old workers have left")
    assert not set(before) & set(up.workers)


def test_hup_finishes_the_request_in_flight(server: Start) -> None:
    up = server(CONF, app=APP, workers=1)
    got: list[str] = []

    def renew() -> None:
        up.says("slow has begun")
        up.signal(signal.SIGHUP)
        up.ready(2)

    together([lambda: got.append(up.get("/slow").text), renew])
    assert got == ["slow has finished"]


def test_one_more_one_less(server: Start) -> None:
    up = server(CONF, app=APP, workers=1)
    up.signal(signal.SIGTTIN)
    up.ready(2)
    assert len(up.workers) == 2
    up.signal(signal.SIGTTOU)
    up.ready(3)
    until(lambda: len(up.workers) == 1, "one has left")
    assert {up.get("/pid").text for _ in range(50)} == {str(up.workers[0])}  # the other slot's socket is served too


# -- what refuses to start ---------------------------------------------------------------------------------------------


def test_a_port_in_use_is_one_line(server: Start) -> None:
    first = server(CONF, app=APP)
    second = server(f"bind 127.0.0.1 {first.port}\n{CONF}", app=APP, ready=False, arguments=["-r"], status=3)
    assert second.ends() == 3
    [line] = second.log().splitlines()
    assert re.search(r"kore.conf:\d+:\d+: can't listen on 127.0.0.1:\d+: the address is in use", line)
    assert first.get("/pid").status == 200


def test_an_unknown_user_is_refused(server: Start) -> None:
    up = server(f"runas nobody-has-this-name\n{CONF}", app=APP, ready=False, status=3)
    assert up.ends() == 3
    assert "nobody-has-this-name" in up.log()
    assert "kore.conf:" in up.log()


def test_configure_that_raises_is_refused(server: Start) -> None:
    app = APP + "\ndef kore_parent_configure(args):\n    raise ValueError('not today')\n"
    up = server(CONF, app=app, ready=False, tracebacks=True, status=3)
    assert up.ends() == 3
    assert "ValueError: not today" in up.log()


# -- what the outside sees ---------------------------------------------------------------------------------------------


def test_pidfile_and_titles(server: Start) -> None:
    up = server(f"pidfile server.pid\n{CONF}", app=APP)
    pidfile = up.directory / "server.pid"
    assert pidfile.read_text() == f"{up.pid}\n"

    def title(pid: int) -> bytes:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0 ")

    assert title(up.pid) == b"gkore [parent]"
    assert {title(pid) for pid in up.workers} == {b"gkore [wrk 1]", b"gkore [wrk 2]"}
    assert up.stop() == 0
    assert not pidfile.exists()


def test_daemon(server: Start) -> None:
    up = server(f"pidfile server.pid\nlogfile gkore.log\n{CONF}", app=APP, ready=False, arguments=["-d"])
    assert up.ends() == 0
    daemon = int((up.directory / "server.pid").read_text())
    log = up.directory / "gkore.log"
    try:
        os.kill(daemon, signal.SIGTERM)
        until(lambda: "log=[stopped]" in log.read_text(), "the daemon has stopped")
    except AssertionError:
        os.killpg(os.getpgid(daemon), signal.SIGKILL)
        raise
    assert f"ready: 2 workers, pid {daemon}" in log.read_text()
    assert not (up.directory / "server.pid").exists()


def test_a_collection_in_a_worker_copies_nothing_of_the_parents(server: Start) -> None:
    app = """
import gc
import kore

ROWS = [[number] for number in range(400_000)]

def private():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_"))

def collect(req):
    before = private()
    gc.collect()
    req.response(200, b"%d" % (private() - before))
"""
    up = server("domain * {\n    route /collect collect\n}\n", app=app, workers=1)
    assert int(up.get("/collect").text) < 4_000  # KiB; the rows take 36,000


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.parametrize("wish", [0, 1])
def test_affinity(server: Start, wish: int) -> None:
    up = server(f"worker_set_affinity {wish}\n{CONF}", app=APP)
    pinned = {tuple(os.sched_getaffinity(pid)) for pid in up.workers}
    assert len(pinned) == (2 if wish else 1)
    assert all((len(cpus) == 1) == bool(wish) for cpus in pinned)


@ROOT_ONLY
def test_workers_run_as_somebody_else(server: Start) -> None:
    up = server(f"runas nobody\n{CONF}", app=APP)
    uid, gid, _ = up.get("/who").text.split(" ")
    assert "0" not in (uid, gid)


@ROOT_ONLY
def test_chroot_and_without(server: Start, tmp_path: Path) -> None:
    jail = tmp_path / "jail"
    jail.mkdir()
    up = server(f"root {jail}\n{CONF}", app=APP)
    assert up.get("/who").text.split(" ")[2] == "/"
    up = server(f"root {jail}\n{CONF}", app=APP, arguments=["-n"])
    assert up.get("/who").text.split(" ")[2] == str(jail)
    up = server(f"privsep worker {{\n    root {jail}\n    skip chroot\n    runas nobody\n}}\n{CONF}", app=APP)
    uid, gid, where = up.get("/who").text.split(" ")
    assert "0" not in (uid, gid)
    assert where == str(jail)
    up = server(f"runas nobody\n{CONF}", app=APP, arguments=["-r"])
    assert up.get("/who").text.split(" ")[0] == str(os.geteuid())


def test_several_addresses_and_a_unix_socket(server: Start) -> None:
    up = server(f"bind 127.0.0.1 0\nbind ::1 0\nbind_unix web.sock\n{CONF}", app=APP)
    assert up.get("/pid").status == 200
    for family, address in ((socket.AF_INET6, ("::1", up.ports[1])), (socket.AF_UNIX, str(up.directory / "web.sock"))):
        with socket.socket(family) as client:
            client.settimeout(DEADLINE)
            client.connect(address)
            client.sendall(b"GET /pid HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
    up.stop()
    assert not (up.directory / "web.sock").exists()


# -- hooks -------------------------------------------------------------------------------------------------------------

HOOKS = """
import os
import kore

def say(text):
    kore.log(kore.LOG_NOTICE, "hook: " + text)

def onload(action):
    say("onload %d" % action)
    return kore.RESULT_OK

def kore_parent_configure(args):
    say("parent_configure %s" % args[1:])

def kore_worker_configure():
    say("worker_configure")

def kore_worker_teardown():
    say("worker_teardown")

def kore_parent_teardown():
    say("parent_teardown")

def pid(req):
    req.response(200, str(os.getpid()).encode())
"""


def said(up: Server) -> list[tuple[str, str]]:
    return re.findall(r"proc=\[([^]]+)\] log=\[hook: (.*)\]", up.log())


def test_hooks_of_kore_3_in_order(server: Start) -> None:
    conf = "python_import app.py onload\ndomain * {\n    route /pid {\n        handler pid\n    }\n}\n"
    up = server(conf, app=HOOKS, workers=1)
    assert up.get("/pid").status == 200
    up.stop()
    assert said(up) == [
        ("parent", "parent_configure []"),
        ("wrk 1", "worker_configure"),
        ("wrk 1", "onload 1"),
        ("wrk 1", "worker_teardown"),
        ("parent", "parent_teardown"),
    ]


SCRIPT = """
import os
import kore

class App:
    def say(self, text):
        kore.log(kore.LOG_NOTICE, "hook: " + text)

    def configure(self, args):
        self.say("configure %s" % args[1:])
        kore.server(ip="127.0.0.1", port="0", tls=False)
        kore.domain("*")

    def workerstart(self):
        self.say("workerstart")

    def workerstop(self):
        self.say("workerstop")

    def cleanup(self):
        self.say("cleanup")

koreapp = App()

@kore.route("/pid", methods=["get"])
def pid(req):
    req.response(200, str(os.getpid()).encode())
"""


def test_hooks_of_koreapp_in_order(server: Start) -> None:
    up = server(script=SCRIPT, workers=1, arguments=["one", "two"])
    assert up.get("/pid").text == str(up.workers[0])
    up.stop()
    assert said(up) == [
        ("parent", "configure ['one', 'two']"),
        ("wrk 1", "workerstart"),
        ("wrk 1", "workerstop"),
        ("parent", "cleanup"),
    ]
