"""A hub that does not come round: named, and replaced; and what a dying worker leaves in the log."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest
from server import DEADLINE, REPOSITORY, Server, until

Start = Callable[..., Server]

APP = """
import ctypes
import os
import kore

def hello(req):
    req.response(200, str(os.getpid()).encode())

def spin(req):
    while not os.path.exists("go"):
        x = 1  # the blocking line
    req.response(200, b"spun")

def hold(req):
    ctypes.PyDLL(None).sleep(300)  # holds the interpreter's lock: no Python code runs meanwhile

async def background():
    kore.coroname("the background task")
    await kore.suspend(60000)

def start(req):
    kore.task_create(background())
    req.response(200, b"")

async def wait(req):
    await kore.suspend(60000)

def say(what):
    kore.log(kore.LOG_NOTICE, "logged before " + what)
    print("printed", "before", what)

def crash(req):
    say("SIGSEGV")
    ctypes.string_at(0)

def abort(req):
    say("SIGABRT")
    os.abort()
"""
CONF = (
    "domain * {\n"
    + "".join(
        f"    route /{name} {{\n        handler {name}\n    }}\n"
        for name in ("hello", "spin", "hold", "wait", "crash", "abort", "start")
    )
    + "}\n"
)


def gkore(up: Server, *words: str) -> str:
    command = [sys.executable, "-m", "gkore", *words]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, cwd=up.directory, env=env, capture_output=True, text=True, check=True).stdout


def begin(up: Server, path: str) -> socket.socket:
    """Send a request whose answer is not waited for."""
    client = socket.create_connection(("127.0.0.1", up.port), DEADLINE)
    client.sendall(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode())
    return client


def test_the_blocking_line_is_named(server: Start) -> None:
    up = server(f"worker_block_warn 1000\n{CONF}", app=APP, workers=1)
    with begin(up, "/spin") as client:
        up.says(r"proc=\[parent\] log=\[worker 1 .* has been blocked for \d+ ms")
        up.says(r"proc=\[wrk 1\] log=\[the hub has been blocked for \d+ ms")
        up.says(r'proc=\[wrk 1\] log=\[ *File ".*app.py", line 1[01], in spin')
        (up.directory / "go").touch()
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert up.log().count("has been blocked for") == 2  # once by the master, once by the worker


def test_a_short_time_may_be_too_long(server: Start) -> None:
    up = server(f"worker_block_warn 50\n{CONF}", app=APP, workers=1)
    with begin(up, "/spin"):
        up.says(r"proc=\[wrk 1\] log=\[the hub has been blocked for \d+ ms")
        (up.directory / "go").touch()


def test_a_worker_that_stays_blocked_is_replaced(server: Start) -> None:
    up = server(f"worker_block_warn 0\nworker_timeout 2\n{CONF}", app=APP, workers=1)
    [stuck] = up.workers
    with begin(up, "/hold"):
        until(lambda: up.workers and stuck not in up.workers, up.log)
        assert up.get("/hello").text == str(up.workers[0])
    assert re.search(r'File ".*app.py", line \d+ in hold', up.log())  # faulthandler's trace
    assert "worker_timeout" in up.log()


def test_a_dump_names_what_each_task_waits_for(server: Start) -> None:
    up = server(f"worker_drain_time 0\n{CONF}", app=APP, workers=1)

    def found() -> set[str]:
        return set(re.findall(r"(task \d+ \(wait\)) waits for suspend\(60000\)", up.log()))

    def dumped() -> bool:
        up.signal(signal.SIGUSR2)  # again: the requests may not have been begun when it was asked before
        return len(found()) == 2

    with begin(up, "/wait"), begin(up, "/wait"):
        until(dumped, up.log)
        up.says(r'File ".*app.py", line \d+, in wait')
        up.stop()


@pytest.mark.parametrize("way", ["gkore dump", "SIGUSR2 to a worker"])
def test_a_dump_names_tasks_of_the_applications_own(server: Start, way: str) -> None:
    up = server(f"worker_drain_time 0\n{CONF}", app=APP, workers=1)
    up.get("/start")
    line = r"proc=\[wrk 1\] log=\[task \d+ \(the background task\) waits for suspend\(60000\):\]"

    def dumped() -> object:  # again: the task may not have begun when it was asked before
        if way == "gkore dump":
            assert gkore(up, "dump") == "asked 1 worker: the stacks are in the log\n"
        else:
            os.kill(up.workers[0], signal.SIGUSR2)
        return re.search(line, up.log())

    until(dumped, up.log)
    up.says(r'File ".*app.py", line \d+, in background')


@pytest.mark.parametrize(
    ("path", "number", "what"), [("/crash", "SIGSEGV", "Segmentation fault"), ("/abort", "SIGABRT", "Aborted")]
)
def test_last_words(server: Start, path: str, number: str, what: str) -> None:
    env = {"PYTHONUNBUFFERED": ""}
    up = server(f"log_format json\n{CONF}", app=APP, workers=1, ready=False, env=env)
    up.says("ready: 1 worker, pid")
    with begin(up, path):
        up.says(f"was killed by {number}")
    lines = up.log().splitlines()
    lines.remove(f"printed before {number}")
    texts = [json.loads(line) for line in lines]
    [logged] = [one for one in texts if one["text"] == f"logged before {number}"]
    assert logged["process"] == "wrk 1"
    [trace] = [one for one in texts if f"Fatal Python error: {what}" in one["text"]]
    assert trace["process"] == "parent"
    assert re.match(r"last words of worker 1 \(pid \d+\):\n", trace["text"])
    assert re.search(rf'File ".*app.py", line \d+ in {path[1:]}$', trace["text"], re.MULTILINE)


def test_last_words_of_a_worker_that_another_program_forked(server: Start) -> None:
    up = server(CONF, app=APP, workers=1)
    [old] = up.workers
    with begin(up, "/wait"):
        until(lambda: '"connections": 1' in gkore(up, "status", "--json"), "the client is there")
        up.reload()
        os.kill(old, signal.SIGABRT)
        up.says(rf"proc=\[parent\] log=\[worker 1 \(pid {old}\) was killed by SIGABRT")
    assert f"last words of worker 1 (pid {old}):]" in up.log()


def test_last_words_of_a_daemon(server: Start) -> None:
    conf = f"logfile gkore.log\npidfile gkore.pid\n{CONF}"
    up = server(conf, app=APP, workers=1, arguments=["-d"], ready=False, bind="127.0.0.1:0")
    assert up.ends() == 0
    log, old = up.directory / "gkore.log", up.directory / "gkore.log.1"
    daemon = int((up.directory / "gkore.pid").read_text())
    try:
        log.rename(old)
        os.kill(daemon, signal.SIGUSR1)
        until(log.exists, "the log to be made anew")
        port = re.search(r"listening on http://127.0.0.1:(\d+)", old.read_text())[1]
        with socket.create_connection(("127.0.0.1", int(port)), DEADLINE) as client:
            client.sendall(b"GET /crash HTTP/1.1\r\nhost: x\r\n\r\n")
            until(lambda: "was killed by SIGSEGV" in log.read_text(), log.read_text)
        assert "\nprinted before SIGSEGV\n" in f"\n{log.read_text()}"
        assert re.search(r'proc=\[parent\] log=\[ *File ".*app.py", line \d+ in crash\]', log.read_text())
    finally:
        os.kill(daemon, signal.SIGTERM)
        until(lambda: "log=[stopped]" in log.read_text(), log.read_text)


TALK = """
import kore

def talk(req):
    for number in range(300):
        print(req.path, number, req.path, number, req.path)
    kore.log(kore.LOG_NOTICE, "the end of " + req.path)
    req.response(200, b"")
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_is_printed_is_in_whole_lines_at_once(server: Start, unbuffered: str) -> None:
    env = {"PYTHONUNBUFFERED": unbuffered}
    up = server("domain * {\n    route ^/.*$ talk\n}\n", app=TALK, workers=4, env=env)
    clients = [begin(up, f"/{number}") for number in range(16)]
    for client in clients:
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        client.close()
    printed = [line for line in up.log().splitlines() if "proc=" not in line]
    assert sorted(printed) == sorted(f"/{n} {m} /{n} {m} /{n}" for n in range(16) for m in range(300))


TALKERS = """
import os
from gkore import log
from gkore.logfile import log_file

log.log.format = "json"
for word in "abcd":
    if not os.fork():
        for _ in range(50):
            log.notice(f"{word * 3000}\\n" * 3)
            log.notice(word)
            log_file("-").write(b'{"text": "%s"}\\n' % (word * 100).encode() * 200)
        os._exit(0)
for _ in range(4):
    os.wait()
"""


def test_long_lines_of_several_processes_do_not_mix_in_a_pipe() -> None:
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    talkers = subprocess.Popen(
        [sys.executable, "-c", TALKERS], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
    )
    assert talkers.stdout is not None
    heard: dict[str, str] = {}
    for line in talkers.stdout:
        text = json.loads(line)["text"]
        assert len({*text} - {"\n"}) == 1
        heard[text[:1]] = heard.get(text[:1], "") + text
    assert talkers.wait() == 0
    assert {word: text.count(word) for word, text in heard.items()} == dict.fromkeys(
        "abcd", 50 * (3 * 3000 + 1 + 200 * 100)
    )
