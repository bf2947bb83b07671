"""Leaving: a stop, a worker that has served enough, and what waits in the queue meanwhile."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from select import select

from server import DEADLINE, REPOSITORY, Server, opened, until

Start = Callable[..., Server]

APP = """
import os
import time
import kore

def pid(req):
    req.response(200, str(os.getpid()).encode())

def hold(req):
    kore.log(kore.LOG_NOTICE, "holding")
    while not os.path.exists("go"):
        time.sleep(0.01)
    req.response(200, b"held")

kept = []

def grow(req):
    kept.append(bytearray(200_000_000))
    kept[-1][::4096] = b"x" * len(kept[-1][::4096])
    req.response(200, b"grown")

async def job(req_path):
    try:
        kore.log(kore.LOG_NOTICE, f"{req_path} has begun")
        while not os.path.exists("go"):
            await kore.suspend(10)
        kore.log(kore.LOG_NOTICE, f"{req_path} is done")
    finally:
        await kore.suspend(10)
        kore.log(kore.LOG_NOTICE, f"{req_path} has ended")

def task(req):
    kore.task_create(job("the task"))
    req.response(200, b"begun")

kore.task_create(job("the early task"))

def kore_worker_signal(number):
    kore.log(kore.LOG_NOTICE, f"signal {number}")
"""
CONF = (
    "domain * {\n"
    + "".join(f"    route /{name} {{\n        handler {name}\n    }}\n" for name in ("pid", "hold", "grow", "task"))
    + "}\n"
)


def begin(up: Server, path: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", up.port), DEADLINE)
    client.sendall(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path)
    return client


def test_a_stop_that_takes_long_says_whom_it_waits_for(server: Start) -> None:
    up = server("control sock\n" + CONF, app=APP, workers=1)
    ours, theirs = os.openpty()
    with begin(up, b"/hold") as client:
        words = [sys.executable, "-m", "gkore", "stop", "--control", "sock"]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        stop = subprocess.Popen(words, cwd=up.directory, env=environment, stdout=subprocess.DEVNULL, stderr=theirs)
        os.close(theirs)
        try:
            said = b""
            while b"workers: 1 draining; 1 connection" not in said:
                assert select([ours], [], [], DEADLINE)[0], said
                said += os.read(ours, 4096)
            up.says(r"still finishing requests: worker 1 \(pid \d+\) has 1 connection, \d+ s left")
            (up.directory / "go").touch()
            assert b"held" in client.recv(65536)
            assert stop.wait(DEADLINE) == 0
        finally:
            stop.kill()
            stop.wait()
            os.close(ours)
    until(lambda: up.ended, up.log)


def test_a_stop_serves_what_waits_in_the_queue(server: Start) -> None:
    up = server(CONF, app=APP, workers=1)
    [worker] = up.workers
    os.kill(worker, signal.SIGSTOP)  # it accepts nothing now
    clients = [begin(up, b"/pid") for _ in range(50)]
    up.signal(signal.SIGTERM)
    up.says("stopping")
    os.kill(worker, signal.SIGCONT)
    for client in clients:
        with client:
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert up.ends() == 0


def test_more_than_there_is_room_for_is_served_at_a_stop(server: Start) -> None:
    up = server(f"worker_max_connections 5\n{CONF}", app=APP, workers=1)
    [worker] = up.workers
    os.kill(worker, signal.SIGSTOP)
    clients = [begin(up, b"/pid") for _ in range(20)]
    up.signal(signal.SIGTERM)
    up.says("stopping")
    os.kill(worker, signal.SIGCONT)
    assert all(client.recv(1000).startswith(b"HTTP/1.1 200") for client in clients)
    for client in clients:
        client.close()
    assert up.ends() == 0


def test_what_does_not_end_is_cut_off_after_the_drain_time(server: Start) -> None:
    up = server(f"worker_drain_time 1\n{CONF}", app=APP, workers=1)
    with begin(up, b"/hold"):
        until(lambda: busy(up), "the request has begun")
        assert up.stop() == 0


def test_a_kept_connection_is_told_that_it_ends(server: Start) -> None:
    up = server(CONF, app=APP, workers=1)
    with begin(up, b"/pid") as client:
        assert b"connection: close" not in client.recv(1000).lower()
        client.sendall(b"GET /hold HTTP/1.1\r\nhost: x\r\n\r\n")
        up.says("holding")
        up.signal(signal.SIGTERM)
        up.says("stopping")
        (up.directory / "go").touch()
        answer = b""
        while piece := client.recv(1000):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"\r\nconnection: close\r\n" in answer
    assert up.ends() == 0


def test_tasks_that_serving_has_made_are_waited_for(server: Start) -> None:
    up = server(CONF, app=APP, workers=1)
    up.get("/task")
    up.says("the task has begun")
    up.signal(signal.SIGTERM)
    up.says("stopping")
    (up.directory / "go").touch()
    assert up.ends() == 0
    assert "the task is done" in up.log()


def test_tasks_that_do_not_end_are_ended_where_they_wait(server: Start) -> None:
    up = server(f"worker_drain_time 1\n{CONF}", app=APP, workers=1)
    up.get("/task")
    up.says("the task has begun")
    assert up.stop() == 0
    assert "cutting off 0 connections and 1 task: worker_drain_time is over" in up.log()
    assert "the task has ended" in up.log()


def test_tasks_of_before_do_not_hold_a_stop_up(server: Start) -> None:
    up = server(f"worker_drain_time 10000\n{CONF}", app=APP, workers=1)
    up.says("the early task has begun")
    assert up.stop() == 0
    assert "the early task has ended" in up.log()


def busy(up: Server) -> bool:
    """Whether the only worker holds a connection: it has its listener, the bus and a client."""
    return sum(link.startswith("socket:") for link in opened(up.workers[0])) > 2


def test_a_second_signal_does_not_wait(server: Start) -> None:
    up = server(CONF, app=APP, workers=1)
    with begin(up, b"/hold"):
        until(lambda: busy(up), "the request has begun")
        up.signal(signal.SIGTERM)
        up.says("stopping")
        up.signal(signal.SIGINT)
        assert up.ends() == 0


def test_the_signal_hook_hears_of_a_stop(server: Start) -> None:
    up = server(CONF, app=APP)
    up.stop()
    assert up.log().count("log=[signal 15]") == 2


def test_max_requests_renews_a_worker_without_a_failed_request(server: Start) -> None:
    up = server(f"max_requests 50\n{CONF}", app=APP, workers=1)
    [first] = up.workers
    answers: list[int] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            answers.append(up.get("/pid").status)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: first not in up.workers, "the worker was renewed")
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert set(answers) == {200}
    assert "requests (max_requests)" in up.log()


def test_a_worker_that_has_grown_is_renewed(server: Start) -> None:
    up = server(f"worker_rss_max 200000000\n{CONF}", app=APP, workers=1)
    [first] = up.workers
    assert up.get("/grow").text == "grown"
    until(lambda: up.workers and first not in up.workers, "the worker was renewed")
    assert "bytes of memory (worker_rss_max)" in up.log()
    assert up.get("/pid").text == str(up.workers[0])


def test_a_reload_serves_what_waits_at_an_address_that_goes(server: Start, tmp_path: Path) -> None:
    keep, go = "bind 127.0.0.1 0\n", f"unix {tmp_path}/going\n" + "bind 127.0.0.2 0\n"
    up = server(f"python_import app.py\n{keep}{go}{CONF}", app=APP)
    gone = next(int(port) for port in re.findall(r"listening on http://127.0.0.2:(\d+)", up.log()))
    old = up.workers
    for worker in old:
        os.kill(worker, signal.SIGSTOP)
    clients = []
    for _ in range(40):
        clients.append(socket.create_connection(("127.0.0.2", gone), DEADLINE))
        clients.append(socket.socket(socket.AF_UNIX))
        clients[-1].connect(f"{tmp_path}/going")
    for client in clients:
        client.settimeout(DEADLINE)
        client.sendall(b"GET /pid HTTP/1.1\r\nhost: x\r\n\r\n")
    (up.directory / "kore.conf").write_text(f"python_import app.py\n{keep}{CONF}")
    up.signal(signal.SIGHUP)
    up.says("no longer listening on 127.0.0.2")
    assert not (tmp_path / "going").exists()
    for worker in old:
        os.kill(worker, signal.SIGCONT)
    answers = Counter(client.recv(1000).partition(b"\r\n")[0] for client in clients)
    for client in clients:
        client.close()
    assert answers == {b"HTTP/1.1 200 OK": 80}
    up.ready(2)
    until(lambda: not set(old) & set(up.workers), "the old workers have left")
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.2", gone)) == errno.ECONNREFUSED
