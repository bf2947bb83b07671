"""The fleet from outside: a real master (``tiny_server.py``), real forks, real signals."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DEADLINE = 30


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {DEADLINE} s for: {what}")
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return []


def status_of(pid: int) -> dict[str, str]:
    return dict(re.findall(r"(\w+):\s*(.*)", Path(f"/proc/{pid}/status").read_text()))


def sockets_of(pid: int) -> set[str]:
    links = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    return {link for link in links if link.startswith("socket:")}


class Tiny:
    """One running tiny server."""

    def __init__(self, log: Path, **wishes: object) -> None:
        self.path = Path(str(wishes.get("logfile", log)))
        with open(log, "wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "tiny_server.py"), json.dumps(wishes)],
                env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
                stdin=subprocess.DEVNULL,
                stderr=stderr,
            )

    @property
    def log(self) -> str:
        return self.path.read_text() if self.path.exists() else ""

    @property
    def port(self) -> int:
        return int(re.search(r"listening on http://[^ ]*:(\d+) ", self.log)[1])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    @property
    def pids(self) -> list[int]:
        return children(self.process.pid)

    def ready(self, times: int) -> None:
        until(
            lambda: self.process.poll() is not None or self.log.count("[ready: ") >= times, f"ready {times}\n{self.log}"
        )

    def says(self, text: str) -> None:
        until(lambda: re.search(text, self.log), f"{text!r} in the log:\n{self.log}")

    def ends(self) -> int:
        return self.process.wait(DEADLINE)

    def ask(self, words: str = "") -> list[str]:
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE) as client:
            client.sendall(words.encode() + b"\n")
            try:
                return client.recv(10000).decode().split()
            except ConnectionResetError:
                return []

    def ask_until(self, condition: Callable[[], object], words: str = "") -> list[list[str]]:
        answers: list[list[str]] = []
        until(lambda: condition() or answers.append(self.ask(words)), f"the condition\n{self.log}")
        return answers

    def slots(self, tries: int = 60) -> dict[str, set[str]]:
        """Which pids answer in which slots."""
        found: dict[str, set[str]] = {}
        for _ in range(tries):
            answer = self.ask()
            found.setdefault(answer[0], set()).add(answer[1])
        return found


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Callable[..., Tiny]]:
    started: list[Tiny] = []

    def start(**wishes: object) -> Tiny:
        started.append(Tiny(tmp_path / f"log{len(started)}", **wishes))
        started[-1].ready(1)
        return started[-1]

    yield start
    for server in started:
        pids = server.pids
        server.process.kill()
        server.process.wait()
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


Start = Callable[..., Tiny]
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# -- deaths ------------------------------------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced_at_once(tiny: Start) -> None:
    server = tiny()
    before = server.pids
    os.kill(before[0], signal.SIGKILL)
    server.says(r"worker 1 \(pid \d+\) was killed by SIGKILL \(out of memory\?\), replaced at once")
    until(lambda: server.log.count("worker 1 (pid") == 3, "the successor is ready")
    assert len(server.pids) == 2
    assert before[1] in server.pids
    assert set(server.slots()) == {"1", "2"}


def test_a_worker_that_leaves_unasked_is_replaced(tiny: Start) -> None:
    server = tiny(workers=1, worker_death_policy="terminate")
    assert server.ask("exit 0") == []
    server.says(r"worker 1 \(pid \d+\) left by itself, replaced at once")
    assert server.ask()[0] == "1"


def test_policy_terminate(tiny: Start) -> None:
    server = tiny(worker_death_policy="terminate")
    server.ask("exit 7")
    assert server.ends() == 1
    assert "ended with status 7" in server.log
    assert "[a worker died (worker_death_policy terminate): stopping" in server.log


def test_a_crash_loop_is_slowed_down(tiny: Start) -> None:
    server = tiny(workers=1)
    server.ask_until(lambda: "it crashes in a loop" in server.log, "kill SIGSEGV")
    assert server.log.count("was killed by SIGSEGV") == 6
    assert server.log.count("replaced at once") == 5
    assert "replaced in 0.1 s (it crashes in a loop)" in server.log
    assert server.ask()[0] == "1"


def test_fatalx_stops_everything(tiny: Start) -> None:
    server = tiny()
    server.ask("fatalx")
    assert server.ends() == 1
    assert re.search(r"worker \d \(pid \d+\) called kore.fatalx: stopping", server.log)


def test_shutdown_stops_everything(tiny: Start) -> None:
    server = tiny()
    server.ask("shutdown")
    assert server.ends() == 0
    assert re.search(r"worker \d \(pid \d+\) called kore.shutdown: stopping", server.log)


def test_workers_that_cannot_boot_end_the_start(tiny: Start, tmp_path: Path) -> None:
    (tmp_path / "boot").write_text("raise")
    server = tiny(workers=1, boot=str(tmp_path / "boot"))
    assert server.ends() == 3
    assert "ValueError: a worker that can't boot" in server.log
    assert "before it was ready, next try in 0.1 s" in server.log
    assert "before it was ready, next try in 0.2 s" in server.log
    assert "3 times in a row: giving up" in server.log


def test_configure_that_fails_ends_the_start(tiny: Start) -> None:
    server = tiny(configure="fail")
    assert server.ends() == 3
    assert "ValueError: this application can't be configured" in server.log
    assert "parent_configure raised:\n" in server.log


# -- the bus -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["garbage", "order"])
def test_a_worker_that_talks_nonsense_is_killed(tiny: Start, word: str) -> None:
    server = tiny()
    server.ask(word)
    server.says(r"was killed: it sent garbage on the bus, replaced at once")
    assert server.process.poll() is None
    assert server.ask()


def test_everybody_hears_a_message_once_with_its_true_sender(tiny: Start) -> None:
    server = tiny(workers=3)
    sender = server.ask("say hello")[0]
    heard: dict[str, list[str]] = {}

    def all_heard() -> bool:
        answer = server.ask()
        if answer[4:]:
            heard[answer[0]] = answer[4:]
        return len(heard) == 3

    until(all_heard, "three workers heard it")
    assert set(map(tuple, heard.values())) == {(f"{sender}:hello",)}


# -- stopping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_stop(tiny: Start, number: signal.Signals) -> None:
    server = tiny()
    pids = server.pids
    server.signal(number)
    assert server.ends() == 0
    assert server.log.count("has drained") == 2
    assert server.log.index("has drained") < server.log.index("teardown")
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_workers_that_do_not_drain_are_killed_at_the_deadline(tiny: Start) -> None:
    server = tiny(workers=1, worker_drain_time=0.1)
    server.ask("hang")
    server.signal(signal.SIGTERM)
    assert server.ends() == 0
    assert "was killed: it did not finish within 0.1 s (worker_drain_time)" in server.log


def test_the_second_signal_does_not_wait(tiny: Start) -> None:
    server = tiny(workers=1, worker_drain_time=3600)
    server.ask("hang")
    server.signal(signal.SIGTERM)
    server.says("SIGTERM: stopping")
    server.signal(signal.SIGTERM)
    assert server.ends() == 0
    assert "was killed: SIGTERM while the server was stopping" in server.log


# -- renewal and size --------------------------------------------------------------------------------------------------


def test_hup_renews_every_worker_without_a_failed_request(tiny: Start) -> None:
    server = tiny(workers=3)
    before = server.pids
    server.signal(signal.SIGHUP)
    assert all(server.ask_until(lambda: server.log.count("[ready: ") == 2))
    until(lambda: server.log.count("has drained") == 3, "the old workers are gone")
    assert len(server.pids) == 3
    assert not set(before) & set(server.pids)
    assert set(server.slots()) == {"1", "2", "3"}


def test_old_workers_stay_when_new_ones_do_not_boot(tiny: Start, tmp_path: Path) -> None:
    boot = tmp_path / "boot"
    server = tiny(boot=str(boot))
    before = server.pids
    boot.write_text("raise")
    server.signal(signal.SIGHUP)
    server.says("given up, the old workers serve on")
    server.says("before it was ready, 3 times in a row")
    assert server.log.count("next try in") == 2  # the others were not tried
    assert server.pids == before
    assert server.ask()
    boot.unlink()
    server.signal(signal.SIGHUP)
    until(lambda: not set(before) & set(server.pids) and server.log.count("[ready: ") == 2, "renewed after all")


def test_hup_gets_past_a_worker_that_hangs_at_boot(tiny: Start, tmp_path: Path) -> None:
    boot = tmp_path / "boot"
    server = tiny(boot=str(boot))
    boot.write_text("hang")
    server.signal(signal.SIGHUP)
    server.says("hangs at boot")
    boot.unlink()
    server.signal(signal.SIGHUP)
    until(lambda: server.log.count("[ready: ") == 2 and len(server.pids) == 2, f"renewed\n{server.log}")


def test_one_more_one_less(tiny: Start) -> None:
    server = tiny(workers=2)
    server.signal(signal.SIGTTIN)
    server.says(r"ready: 3 workers")
    assert set(server.slots()) == {"1", "2", "3"}
    server.signal(signal.SIGTTOU)
    server.says(r"(?s)ready: 3 workers.*ready: 2 workers")
    server.signal(signal.SIGTTOU)
    server.says(r"ready: 1 worker,")
    until(lambda: len(server.pids) == 1, "one worker is left")
    answers = [server.ask() for _ in range(60)]
    assert {answer[0] for answer in answers} == {"1"}
    assert {answer[2] for answer in answers} == {"3"}  # it serves the sockets of all three slots: none was closed
    server.signal(signal.SIGTTOU)
    server.says("SIGTTOU: the last worker that accepts connections stays")
    server.signal(signal.SIGTTIN)
    server.says(r"(?s)ready: 1 worker,.*ready: 2 workers")
    assert set(server.slots()) == {"1", "2"}


def test_no_request_is_lost_while_the_fleet_shrinks(tiny: Start) -> None:
    server = tiny(workers=3)
    for left in (2, 1):
        server.signal(signal.SIGTTOU)
        assert all(
            server.ask_until(lambda left=left: len(server.pids) == left and f"ready: {left} worker" in server.log)
        )


def test_a_worker_that_accepts_nothing(tiny: Start) -> None:
    server = tiny(workers=2, worker_no_accept=[2])
    assert "listening on http://127.0.0.1:" in server.log
    assert "(server default, 1 worker)" in server.log
    assert set(server.slots()) == {"1"}
    assert len(server.pids) == 2


# -- what a child has --------------------------------------------------------------------------------------------------


def test_workers_share_listeners_and_nothing_else(tiny: Start) -> None:
    server = tiny(workers=3)
    held = [sockets_of(pid) for pid in server.pids]
    assert all(len(sockets) == 6 for sockets in held)  # three listeners, its bus, and the pair that tiny_server makes
    assert len(set.intersection(*held)) == 3
    assert len(set.union(*held)) == 3 + 3 * 3


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_affinity(tiny: Start) -> None:
    server = tiny(worker_set_affinity=True)
    assert {len(os.sched_getaffinity(pid)) for pid in server.pids} == {1}
    assert len({tuple(os.sched_getaffinity(pid)) for pid in server.pids}) == 2


def test_signals_meant_for_the_master_do_not_hurt_a_worker(tiny: Start) -> None:
    server = tiny(workers=1)
    [pid] = server.pids
    for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1):
        os.kill(pid, number)
    assert server.ask()[1] == str(pid)
    assert server.pids == [pid]


def test_the_log_is_reopened(tiny: Start, tmp_path: Path) -> None:
    logfile = tmp_path / "gkore.log"
    server = tiny(workers=1, logfile=str(logfile))
    port = server.port
    logfile.rename(tmp_path / "gkore.log.1")
    server.signal(signal.SIGUSR1)
    until(logfile.exists, "a new log")

    def worker_has_it() -> bool:
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
            client.sendall(b"log I am here\n")
            client.recv(1000)
        return "proc=[wrk 1] log=[I am here]" in logfile.read_text()

    until(worker_has_it, "the worker writes to it")


# -- what the master leaves behind -------------------------------------------------------------------------------------


def test_pidfile(tiny: Start, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    server = tiny(pidfile=str(path))
    assert path.read_text() == f"{server.process.pid}\n"
    server.signal(signal.SIGTERM)
    server.ends()
    assert not path.exists()


def test_a_pidfile_that_is_not_ours_any_more_stays(tiny: Start, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    server = tiny(pidfile=str(path))
    path.write_text("1\n")
    server.signal(signal.SIGTERM)
    assert server.ends() == 0
    assert path.read_text() == "1\n"


def test_a_pidfile_taken_from_a_server_that_runs_is_told_of(tiny: Start, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("1\n")  # somebody, but no gkore
    first = tiny(pidfile=str(path))
    second = tiny(pidfile=str(path))
    assert "taken from" not in first.log
    assert f"pidfile {path}: taken from another server that runs, pid {first.process.pid}; give each" in second.log
    assert path.read_text() == f"{second.process.pid}\n"


def test_a_pidfile_that_cannot_be_written_is_a_warning(tiny: Start) -> None:
    server = tiny(pidfile="/no/such/directory/pid")
    assert "pidfile /no/such/directory/pid: No such file or directory; going on without it" in server.log
    assert server.ask()


def test_daemon(tiny: Start, tmp_path: Path) -> None:
    pidfile, logfile = tmp_path / "pid", tmp_path / "gkore.log"
    server = tiny(daemonize=True, pidfile=str(pidfile), logfile=str(logfile))
    assert server.ends() == 0
    assert "ready: 2 workers" in logfile.read_text()  # it came back when the server served, not before
    pid = int(pidfile.read_text())
    assert os.getsid(pid) not in (0, pid, os.getsid(0))
    os.kill(pid, signal.SIGINT)  # ignored: it may come from a terminal that has nothing to do with it any more
    os.kill(pid, signal.SIGTERM)
    until(lambda: not pidfile.exists(), "the daemon has stopped")
    assert "SIGINT" not in logfile.read_text()


def test_a_daemon_that_fails_says_so(tiny: Start, tmp_path: Path) -> None:
    (tmp_path / "boot").write_text("raise")
    server = tiny(daemonize=True, boot=str(tmp_path / "boot"), logfile=str(tmp_path / "log"))
    assert server.ends() == 3


def test_the_service_manager_is_told(tiny: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(DEADLINE)
        server = tiny()
        pid = server.process.pid
        assert manager.recv(1000).decode() == f"READY=1\nSTATUS=ready: 2 workers, pid {pid}\nMAINPID={pid}"
        server.signal(signal.SIGHUP)
        assert manager.recv(1000).decode().startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(1000).decode().startswith("READY=1\n")
        server.signal(signal.SIGTERM)
        assert manager.recv(1000).decode().startswith("STOPPING=1\n")


# -- root only ---------------------------------------------------------------------------------------------------------


@ROOT_ONLY
def test_workers_become_somebody_else_for_good(tiny: Start) -> None:
    server = tiny(runas="nobody")
    for pid in server.pids:
        status = status_of(pid)
        assert len(set(status["Uid"].split())) == 1
        assert status["Uid"].split()[0] != "0"
        assert status["Gid"].split()[0] != "0"
        assert "0" not in status["Groups"].split()
        assert status["CapEff"] == "0" * 16
        assert status["NoNewPrivs"] == "1"
    assert status_of(server.process.pid)["Uid"].split()[0] == "0"


@ROOT_ONLY
def test_chroot(tiny: Start, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    server = tiny(root=str(tmp_path), runas="nobody")
    for pid in server.pids:
        assert os.readlink(f"/proc/{pid}/root") == str(tmp_path)
        assert os.readlink(f"/proc/{pid}/cwd") == str(tmp_path)


def test_root_without_chroot_is_the_directory(tiny: Start, tmp_path: Path) -> None:
    server = tiny(root=str(tmp_path), no_chroot=True)
    for pid in server.pids:
        assert os.readlink(f"/proc/{pid}/root") == "/"
        assert os.readlink(f"/proc/{pid}/cwd") == str(tmp_path)


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        ({"runas": "nobody-has-this-name"}, "runas nobody-has-this-name: no such user"),
        ({"root": "/no/such/directory"}, "root /no/such/directory: no such directory"),
        ({"worker_no_accept": [1, 2]}, "worker_no_accept names every worker"),
    ],
)
def test_what_cannot_be_is_one_line(tiny: Start, wish: dict, text: str) -> None:
    server = tiny(**wish)
    assert server.ends() == 3
    assert text in server.log
    assert server.log.count("\n") == 1


def test_files_limit_is_raised(tiny: Start) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        server = tiny(worker_rlimit_nofiles=1000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    for pid in server.pids:
        assert 1000 <= resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] < 1100  # those open already are added


def test_a_files_limit_out_of_reach_is_said(tiny: Start) -> None:
    server = tiny(worker_rlimit_nofiles=2**40)
    assert "worker_rlimit_nofiles 1099511627776 is out of reach" in server.log
    assert server.ask()


@ROOT_ONLY
def test_as_pid_1_it_reaps_strangers_quietly(tmp_path: Path) -> None:
    """In a container the master is init: what a worker leaves behind becomes its child."""
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, str(HERE / "tiny_server.py"), "{}"]
    with open(tmp_path / "log", "wb") as stderr:
        outer = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(HERE.parents[1])}, stderr=stderr)
    try:
        server = Tiny.__new__(Tiny)
        server.path, server.process = tmp_path / "log", outer
        server.ready(1)
        assert "ready: 2 workers, pid 1]" in server.log
        [master] = children(outer.pid)
        workers = children(master)
        server.ask("orphan")
        until(lambda: children(master) == workers, "the orphan was collected")
        os.kill(workers[0], signal.SIGKILL)
        server.says("was killed by SIGKILL .*, replaced at once")
        os.kill(master, signal.SIGTERM)
        assert server.ends() == 0
    finally:
        outer.kill()
        outer.wait()
