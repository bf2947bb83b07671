"""Looking into a running server: ``gkore status``, /metrics, /live, /ready."""

from __future__ import annotations

import http.client
import json
import os
import pty
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

from server import DEADLINE, REPOSITORY, Server, opened, until

from gkore.remote import span

Start = Callable[..., Server]

APP = """
import os
import kore

def hello(req):
    req.response(200, b"hello")

def spin(req):
    while not os.path.exists("go"):
        pass
    req.response(200, b"spun")

def many(req):
    for _ in range(3):
        kore.task_create(waiting())
    req.response(200, b"three")

async def waiting():
    await kore.suspend(60000)

async def slow(req):
    kore.log(kore.LOG_NOTICE, "slow has begun")
    while not os.path.exists("go"):
        await kore.suspend(10)
    req.response(200, b"slow")
"""
CONF = """
metrics 127.0.0.1:0
domain * {
    route /hello {
        handler hello
    }
    route /slow {
        handler slow
    }
    route /spin spin
    route /many many
}
"""


def gkore(up: Server, *words: str) -> str:
    command = [sys.executable, "-m", "gkore", *words]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, cwd=up.directory, env=env, capture_output=True, text=True, check=True).stdout


def page(up: Server, path: str) -> tuple[int, str]:
    port = int(re.search(r"metrics, /live and /ready on http://127.0.0.1:(\d+)", up.log())[1])
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read().decode()
    finally:
        client.close()


def test_status_counts_what_was_served(server: Start) -> None:
    up = server(CONF, app=APP)
    for _ in range(30):
        up.get("/hello")
    with socket.create_connection(("127.0.0.1", up.port), DEADLINE):
        until(lambda: json.loads(gkore(up, "status", "--json"))["requests"] == 30, "30 requests")
        found = json.loads(gkore(up, "status", "--json"))
        until(lambda: sum(one["connections"] for one in workers(up)) == 1, "one connection")
    assert found["pid"] == up.pid
    assert sorted(one["pid"] for one in found["workers"]) == sorted(up.workers)
    assert {one["state"] for one in found["workers"]} == {"ready"}
    assert all(one["rss"] > one["private"] > 1_000_000 for one in workers(up))
    lines = gkore(up, "status", "-c", "kore.conf").splitlines()
    assert "ready, 2 workers wanted, 30 requests, 0 restarts" in lines[0]
    assert len(lines) == 4


def workers(up: Server) -> list[dict[str, int]]:
    return json.loads(gkore(up, "status", "--json"))["workers"]


def test_a_worker_that_is_blocked_now_is_seen(server: Start) -> None:
    up = server(CONF, app=APP, workers=1)
    with socket.create_connection(("127.0.0.1", up.port), DEADLINE) as client:
        client.sendall(b"GET /spin HTTP/1.1\r\nhost: x\r\n\r\n")
        until(lambda: workers(up)[0]["lag"] > 1000, "the lag")
        (up.directory / "go").touch()
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    until(lambda: workers(up)[0]["lag"] < 1000, "the lag's end")


def test_tasks_of_the_applications_own_count(server: Start) -> None:
    up = server(f"worker_drain_time 0\n{CONF}", app=APP, workers=1)
    up.get("/many")
    until(lambda: workers(up)[0]["tasks"] == 3, "three tasks")


def test_prometheus(server: Start) -> None:
    up = server(CONF, app=APP)
    up.get("/hello")
    until(lambda: "\ngkore_requests_total 1\n" in page(up, "/metrics")[1], "the request is counted")
    text = page(up, "/metrics")[1]
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) gkore_\w+ .+|gkore_\w+(\{(\w+=\"[^\"]*\",?)+\})? [0-9.e+-]+", line), line
    os.kill(up.workers[0], signal.SIGKILL)
    until(lambda: "\ngkore_worker_restarts_total 1\n" in page(up, "/metrics")[1], "the restart is counted")
    assert page(up, "/nothing")[0] == 404


def test_counts_outlive_a_reload(server: Start) -> None:
    up = server(CONF, app=APP)
    up.get("/hello")
    until(lambda: "\ngkore_requests_total 1\n" in page(up, "/metrics")[1], "the request is counted")
    up.signal(signal.SIGHUP)
    up.ready(2)
    until(lambda: len(up.workers) == 2, "the old workers have left")
    text = page(up, "/metrics")[1]
    assert "\ngkore_requests_total 1\n" in text
    assert "\ngkore_reloads_total 1\n" in text


def test_ready_ends_when_a_stop_begins_and_live_goes_on(server: Start) -> None:
    up = server(CONF, app=APP)
    assert page(up, "/ready")[0] == page(up, "/live")[0] == 200
    with socket.create_connection(("127.0.0.1", up.port), DEADLINE) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        up.says("slow has begun")
        up.signal(signal.SIGTERM)
        up.says("stopping")
        assert page(up, "/ready")[0] == 503
        assert page(up, "/live")[0] == 200
        (up.directory / "go").touch()
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_nobody_can_keep_the_master_busy(server: Start) -> None:
    up = server(CONF, app=APP)
    port = int(re.search(r"/ready on http://127.0.0.1:(\d+)", up.log())[1])
    silent = [socket.create_connection(("127.0.0.1", port), DEADLINE) for _ in range(60)]
    for sock in silent[:20]:
        sock.sendall(b"x" * 10000)
    assert page(up, "/live")[0] == 200
    os.kill(up.workers[0], signal.SIGKILL)
    until(lambda: "replaced at once" in up.log(), up.log)
    for sock in silent:
        sock.close()


def test_a_master_without_descriptors_can_be_asked_and_goes_on(server: Start) -> None:
    up = server(CONF, app=APP)
    limits = resource.prlimit(up.pid, resource.RLIMIT_NOFILE)
    taken = {int(name) for name in os.listdir(f"/proc/{up.pid}/fd")}
    lowest = min(set(range(len(taken) + 1)) - taken)
    resource.prlimit(up.pid, resource.RLIMIT_NOFILE, (lowest, limits[1]))
    assert len(workers(up)) == 2
    assert page(up, "/ready")[0] == 200
    assert "anon_inode:[eventpoll]" not in opened(up.pid), "the master has a hub"
    os.kill(up.workers[0], signal.SIGKILL)
    up.says("worker 1 can't be forked: too many open files; raise the limit")
    up.says("can't accept: too many open files; raise the limit")
    resource.prlimit(up.pid, resource.RLIMIT_NOFILE, limits)
    until(lambda: len(up.workers) == 2, "the second worker is back")


OBSERVED = """
import kore

def plain(req):
    req.response(200, b"")

async def waits(req):
    await kore.suspend(40)
    req.response(200, b"")

def captures(req, number):
    req.response(200, number.encode())

def later(req):
    return waits(req)

def fails(req):
    raise ValueError("on purpose")
"""
ROUTES = ("/plain plain", "/waits waits", r"^/captures/([0-9]+)$ captures", "/later later", "/fails fails")
OBSERVED_CONF = "metrics 127.0.0.1:0\ndomain * {\n" + "".join(f"    route {route}\n" for route in ROUTES) + "}\n"
SERIES = re.compile(r'gkore_request_duration_seconds_(\w+)\{domain="(.+?)",route="(.+?)"(?:,le="(.+?)")?\} (\S+)')


def histograms(up: Server) -> dict[str, dict[str, float]]:
    """By route: bounds to counts, and ``sum`` and ``count``."""
    found: dict[str, dict[str, float]] = {}
    for kind, _, route, bound, value in SERIES.findall(page(up, "/metrics")[1]):
        found.setdefault(route, {})[bound or kind] = float(value)
    return found


def test_latencies_of_each_route(server: Start) -> None:
    up = server(OBSERVED_CONF, app=OBSERVED, tracebacks=True)
    for path in ("/plain", "/plain", "/plain", "/waits", "/captures/7", "/later", "/fails", "/nowhere"):
        up.get(path)
    captures = r"^/captures/([0-9]+)$"
    wanted = {"/plain": 3, "/waits": 1, captures: 1, "/later": 1, "/fails": 1}
    until(lambda: {route: one["count"] for route, one in histograms(up).items()} == wanted, "all are counted")
    found = histograms(up)
    for one in found.values():
        counts = [value for bound, value in one.items() if bound not in ("sum", "count")]
        assert counts == sorted(counts)
        assert one["+Inf"] == one["count"]
    for route in ("/waits", "/later"):
        assert found[route]["0.025"] == 0
        assert found[route]["sum"] >= 0.03
    os.kill(up.workers[0], signal.SIGKILL)
    up.says("replaced at once")
    up.reload()
    until(lambda: len(up.workers) == 2, "the old workers have left")
    assert {route: one["count"] for route, one in histograms(up).items()} == wanted


def test_the_last_requests_of_a_worker_count(server: Start) -> None:
    up = server(CONF, app=APP, workers=1)
    [old] = up.workers
    up.get("/hello")
    up.reload()
    until(lambda: old not in up.workers, "the old worker has left")
    assert "\ngkore_requests_total 1\n" in page(up, "/metrics")[1]


PEEK = """
def peek(req):
    handler = req.action.handler
    req.response(200, f"{handler.__name__} {handler is not peek}".encode())
"""
PEEKED = CONF.replace("domain * {", "domain * {\n    route /peek peek")


def test_nothing_is_measured_without_metrics(server: Start) -> None:
    up = server(PEEKED.replace("metrics 127.0.0.1:0\n", ""), app=f"{APP}{PEEK}", workers=1)
    assert up.get("/peek").text == "peek False"
    measured = server(PEEKED, app=f"{APP}{PEEK}", workers=1)
    assert measured.get("/peek").text == "peek True"


def test_the_reference_names_every_metric_and_no_other(server: Start) -> None:
    up = server(CONF, app=APP)
    text = (REPOSITORY / "docs/reference/metrics.md").read_text()
    named = dict(re.findall(r"^\| `(gkore_\w+)` \| (\w+) \|", text, re.MULTILINE))
    shown = dict(re.findall(r"^# TYPE (\w+) (\w+)$", page(up, "/metrics")[1], re.MULTILINE))
    assert named == shown


def test_watching_ends_with_the_server(server: Start) -> None:
    up = server(CONF, app=APP)
    master, terminal = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "gkore", "status", "--watch"]
    watching = subprocess.Popen(command, cwd=up.directory, env=env, stdout=terminal, stderr=terminal)
    os.close(terminal)
    said = b""
    while said.count(b"2 workers wanted") < 2:
        said += os.read(master, 65536)
    assert b" - " not in said
    up.stop()
    try:
        while piece := os.read(master, 65536):
            said += piece
    except OSError:  # Linux: the other end is closed
        pass
    os.close(master)
    assert watching.wait(DEADLINE) == 0
    assert said.endswith(b"the server has ended\r\n")


def test_ages_are_short() -> None:
    seconds = (0, 59, 60, 3599, 3600, 90000, 10**7)
    assert [span(one) for one in seconds] == ["0s", "59s", "1m00s", "59m59s", "1h00m", "1d01h", "115d17h"]
