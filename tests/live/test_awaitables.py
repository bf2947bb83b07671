"""What waits in a real worker: made before fork, left by its clients, trapped, drained. Nothing of it may stay."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres import postgres
from server import Server, until
from server import server as server_of

APP = """
import gc
import json
import os
import signal
import socket

import kore

early = []
queue = kore.queue()
lock = kore.lock()
ended = [0]
begun = [0]
signals = []


async def early_task(name):
    early.append(f"{name} began")
    while True:
        early.append(await queue.pop())


kore.task_create(early_task("import"))
kore.sigtrap(signal.SIGUSR2)


def kore_parent_configure(args):
    kore.task_create(early_task("configure"))


def kore_worker_configure():
    kore.dbsetup("db", os.environ["DSN"])


def kore_worker_signal(number):
    signals.append(number)


def state(req):
    from greenlet import greenlet
    gc.collect()
    tasks = [thing for thing in gc.get_objects() if isinstance(thing, greenlet) and not thing.dead]
    req.response(200, json.dumps({
        "early": early,
        "begun": begun[0],
        "ended": ended[0],
        "greenlets": len(tasks),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "children": open(f"/proc/self/task/{os.getpid()}/children").read().split(),
        "locked": not (lock.trylock() and lock.release() is None),
        "waiting": len(waiting._poppers),
        "signals": signals,
    }))


async def push(req):
    queue.push("pushed")
    await kore.suspend(1)
    req.response(200, json.dumps(early))


waiting = kore.queue()
silent = socket.create_server(("127.0.0.1", 0))


async def on_suspend():
    await kore.suspend(600_000)


async def on_lock():
    async with lock:
        await kore.suspend(600_000)


async def on_queue():
    await waiting.pop()


async def on_socket():
    one, two = socket.socketpair()
    await kore.socket_wrap(one).recv(1)


async def on_process():
    await kore.proc("sleep 600").recv(1)


async def on_gather():
    await kore.gather(on_suspend(), on_lock(), on_queue())


async def on_query():
    await kore.dbquery("db", "select pg_sleep(600), 'left behind'")


async def on_request():
    await kore.httpclient(f"http://127.0.0.1:{silent.getsockname()[1]}/").get()


async def on_curl():
    await kore.curl(f"http://127.0.0.1:{silent.getsockname()[1]}/").run()


async def on_asyncio():
    import asyncio
    await kore.aio(asyncio.sleep(600))


async def wait(req):
    kind = req.path.rpartition("/")[2]
    begun[0] += 1
    try:
        await globals()[f"on_{kind}"]()
    finally:
        ended[0] += 1


async def query(req):
    left = "select count(*) n from pg_stat_activity where state = 'active' and query like $1"
    (row,) = await kore.dbquery("db", left, params=["%left " + "behind'"])
    req.response(200, row["n"])
"""
CONF = """
http_request_limit 20000
worker_max_connections 2000
worker_rlimit_nofiles 5000
worker_set_affinity 0
domain * {
    static /state state
    static /push push
    static /query query
    dynamic ^/wait/ wait
}
"""


@pytest.fixture(scope="module")
def database() -> Iterator[Any]:
    with postgres() as running:
        yield running


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, database: Any) -> Iterator[Server]:
    env = {"DSN": database.get_uri()}
    with server_of(tmp_path_factory.mktemp("server"), CONF, app=APP, workers=1, env=env) as server:
        yield server


def state(up: Server) -> Any:
    return json.loads(up.get("/state").body)


def leave(up: Server, kind: str, count: int) -> None:
    """That many clients ask, and go when all of them are waiting."""
    before = state(up)["begun"]
    clients = []
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", up.port))
        client.sendall(b"GET /wait/%b HTTP/1.1\r\nhost: x\r\n\r\n" % kind.encode())
        clients.append(client)
    until(lambda: state(up)["begun"] == before + count, "all of them to wait")
    for client in clients:
        client.close()
    until(lambda: state(up)["ended"] == before + count, "all of them to end")


KINDS = {
    "suspend": 100,
    "lock": 100,
    "queue": 100,
    "socket": 100,
    "process": 20,
    "gather": 100,
    "query": 20,
    "request": 50,
    "curl": 50,
    "asyncio": 50,
}


@pytest.mark.parametrize("kind", KINDS)
def test_clients_that_leave_take_everything_along(up: Server, kind: str) -> None:
    def idle() -> bool:
        return up.get("/query").body == b"0" and state(up)["children"] == []

    def busy() -> str:
        return f"the end of queries ({up.get('/query').body!r}) and processes ({state(up)['children']})"

    leave(up, kind, KINDS[kind])  # once, to warm up: threads, pools, connections that are kept
    until(idle, busy)
    before = state(up)
    leave(up, kind, KINDS[kind])
    until(idle, busy)
    settles(up, before)


def settles(up: Server, before: Any) -> None:
    """Nothing has stayed but what pools of tasks, threads and connections may have grown by."""

    def settled() -> bool:
        found = state(up)
        more = found["greenlets"] - before["greenlets"], found["descriptors"] - before["descriptors"]
        return more[0] <= 10 and more[1] <= 2 and not found["locked"] and not found["waiting"]

    until(settled, lambda: f"{before}, {state(up)}")


@pytest.mark.slow
def test_ten_thousand_clients_that_leave(up: Server) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        leave(up, "suspend", 1000)
        before = state(up)
        (worker,) = up.workers
        memory = resident(worker)
        for kind in ("suspend", "lock", "queue", "suspend", "lock", "queue", "suspend", "lock", "queue", "suspend"):
            leave(up, kind, 1000)
        settles(up, before)
        assert resident(worker) < memory + 8 * 2**20
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_what_was_made_before_fork_runs_in_every_worker_and_again_after_reload(up: Server) -> None:
    up.get("/push")
    until(lambda: len(state(up)["early"]) == 3, lambda: str(state(up)))
    assert state(up)["early"] == ["import began", "configure began", "pushed"]
    (before,) = up.workers
    os.kill(before, signal.SIGKILL)
    until(lambda: up.workers and up.workers != [before], "another worker")
    assert state(up)["early"] == ["import began", "configure began"]


def test_trapped_signals_reach_the_hook(up: Server) -> None:
    (worker,) = up.workers
    os.kill(worker, signal.SIGUSR2)
    until(lambda: state(up)["signals"] == [signal.SIGUSR2], lambda: str(state(up)))


def test_processes_die_with_a_worker_that_is_killed(up: Server) -> None:
    with socket.create_connection(("127.0.0.1", up.port)) as client:
        client.sendall(b"GET /wait/process HTTP/1.1\r\nhost: x\r\n\r\n")
        until(lambda: len(state(up)["children"]) == 1, "a process")
        (child,) = state(up)["children"]
        os.kill(up.workers[0], signal.SIGKILL)
        until(lambda: not alive(int(child)), "its end")


def alive(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] != "Z"


def test_a_coroutine_that_waits_is_waited_for_in_a_drain(tmp_path: Any) -> None:
    with server_of(tmp_path, CONF, app=APP, workers=1, env={"DSN": ""}) as up:
        client = socket.create_connection(("127.0.0.1", up.port))
        client.sendall(b"GET /push HTTP/1.1\r\nhost: x\r\n\r\n")
        up.signal(signal.SIGTERM)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        client.close()
