"""The loads: each takes a running server and a workload and returns a Sample."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench import process
from bench.machine import Cores, on_cores
from bench.running import Running, Unusable, read_answer
from bench.workloads import Workload

LUA = Path(__file__).with_name("wrk.lua")
TALK = Path(__file__).with_name("talk.py")
TURNS = Path(__file__).with_name("turns.py")
FEW = 64
PER_ADDRESS = 20_000
"""Connections from one source address: fewer than the 28,232 ports of Linux' default ip_local_port_range."""
FIRST_HUNDRED = 100
AT_ONCE = 100


@dataclass(slots=True)
class Sample:
    """One server, one workload, one round."""

    cost: float
    """CPU microseconds a request, KiB a connection, or a ratio: the workload's unit."""
    rate: float
    """Requests, or connections made, per second."""
    p99_ms: float
    """0 where there is none: wrk corrects latencies for missed requests and loses its percentiles when it pipelines."""
    rss_mib: float
    busy: float
    """The server's share of its cores while measured, 1.0 is all that its workers can use."""
    foreign: float
    """The share of those cores that other processes used meanwhile, a load generator on the same ones included."""
    stolen: float
    """The share that the hypervisor gave to other machines; it inflates the cost."""
    errors: int
    p50_ms: float = 0.0
    """Of websocket messages; kept in the results, not shown."""


@dataclass(slots=True, frozen=True)
class Settings:
    """One run of the bench."""

    cores: Cores
    duration: float
    warmup: float


def measure(running: Running, workload: Workload, settings: Settings) -> Sample:
    """One Sample. Raises Unusable when there is nothing to divide by."""
    loads = {"wrk": under_wrk, "talk": under_talk, "idle": under_idle_connections, "turns": under_turns}
    return loads[workload.load](running, workload, settings)


def under_wrk(running: Running, workload: Workload, settings: Settings) -> Sample:
    if settings.warmup:
        wrk(running.port, workload, settings.cores, settings.warmup)
    return sample(running, workload, settings, lambda: wrk(running.port, workload, settings.cores, settings.duration))


def under_talk(running: Running, workload: Workload, settings: Settings) -> Sample:
    """Measured from when all websockets are open: their handshakes don't count."""
    mode = "broadcast" if workload.app == "broadcast" else "echo"
    words = [str(running.port), workload.path, str(workload.message), str(workload.connections), mode]
    return _beside(running, workload, settings, [str(TALK), *words], "websocket load")


def _beside(running: Running, workload: Workload, settings: Settings, program: list[str], what: str) -> Sample:
    """Measured from when the program of ours that makes the load says READY."""
    child = started(on_cores(settings.cores.load, [sys.executable, *program], settings.cores.shared))
    try:
        assert child.stdout is not None
        said = child.stdout.readline()
        if said != "READY\n":
            raise Unusable(f"the {what} failed: {said}{child.stdout.read()[-400:]}")
        return sample(running, workload, settings, lambda: reported(child, settings.duration))
    finally:
        child.kill()
        child.wait()


def under_turns(running: Running, workload: Workload, settings: Settings) -> Sample:
    """What a request costs with many connections open, by what it costs with ``FEW``: the two after each other."""
    few, many = (
        _turns(running, workload, settings, connections, min(connections, workload.asking or connections))
        for connections in (FEW, workload.connections)
    )
    if not few.cost:
        raise Unusable("no tick of CPU time with few connections: measure for longer (--duration)")
    return replace(many, cost=many.cost / few.cost)


def _turns(running: Running, workload: Workload, settings: Settings, connections: int, asking: int) -> Sample:
    words = [str(running.port), workload.path, str(connections), str(asking)]
    return _beside(running, workload, settings, [str(TURNS), *words], "load in turns")


def sample(running: Running, workload: Workload, settings: Settings, drive: Callable[[], dict[str, float]]) -> Sample:
    cpu, core, start = process.cpu_seconds(running.pid), process.core_time(settings.cores.server), time.monotonic()
    result = drive()
    there = (time.monotonic() - start) * settings.cores.count
    cpu = process.cpu_seconds(running.pid) - cpu
    core_now = process.core_time(settings.cores.server)
    requests = int(result["requests"])
    if not requests or result["refused"]:
        raise Unusable(f"{requests} requests completed, {int(result['refused'])} of them not with 200")
    return Sample(
        cost=cpu / requests * 1e6,
        rate=requests / result["seconds"],
        p99_ms=result["p99_us"] / 1000 if workload.depth == 1 else 0.0,
        rss_mib=process.rss_bytes(running.pid) / 2**20,
        busy=cpu / there * (settings.cores.count / (running.server.workers or settings.cores.count)),
        foreign=max(0.0, (core_now.processes - core.processes - cpu) / there),
        stolen=(core_now.stolen - core.stolen) / there,
        errors=int(result["errors"]),
        p50_ms=result.get("p50_us", 0.0) / 1000,
    )


def wrk(port: int, workload: Workload, cores: Cores, seconds: float) -> dict[str, float]:
    """What wrk counted. It takes whole seconds only: it is told to go on, then interrupted (SIGINT: it reports)."""
    headers = [word for name, value in workload.headers.items() for word in ("-H", f"{name}: {value}")]
    if workload.form:
        headers += ["-H", f"Content-Type: {workload.form[0]}"]
    how = ["-t", "1", "-c", str(workload.connections), "-d", "3600s", "-s", str(LUA), *headers]
    address = f"http{'s' if workload.tls else ''}://127.0.0.1:{port}{workload.path}"
    command = ["wrk", *how, address, "--", str(workload.depth), str(workload.cookies)]
    if workload.form:
        with tempfile.NamedTemporaryFile(delete=False) as body:
            body.write(workload.form[1])
        command.append(body.name)
    try:
        return reported(started(on_cores(cores.load, command, cores.shared)), seconds)
    finally:
        if workload.form:
            os.unlink(body.name)


def started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def reported(child: subprocess.Popen[str], seconds: float) -> dict[str, float]:
    """Let a load run for that long, then have it say what it counted."""
    try:
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            output = _told_to_stop(child)
        else:
            output, _ = child.communicate()
    finally:
        child.kill()
    for line in output.splitlines():
        if line.startswith("JSON "):
            result: dict[str, float] = json.loads(line.removeprefix("JSON "))
            return result
    raise Unusable(f"the load failed: {output.strip()[-400:]}")


def _told_to_stop(child: subprocess.Popen[str]) -> str:
    """What it said; wrk forgets a SIGINT that comes before it sleeps, and would sleep for its hour."""
    for _ in range(10):
        child.send_signal(signal.SIGINT)
        try:
            return child.communicate(timeout=2)[0]
        except subprocess.TimeoutExpired:
            continue
    raise Unusable("the load did not stop when it was told to")


def under_idle_connections(running: Running, workload: Workload, settings: Settings) -> Sample:
    """Memory per connection that has had one request answered and stays open.

    The first hundred are open before the first reading, so that what a server sets up once is not counted.
    """
    clients: list[socket.socket] = []
    try:
        open_connections(clients, FIRST_HUNDRED, running.port, workload)
        before, cpu, start = process.rss_bytes(running.pid), process.cpu_seconds(running.pid), time.monotonic()
        open_connections(clients, workload.connections, running.port, workload)
        elapsed, cpu = time.monotonic() - start, process.cpu_seconds(running.pid) - cpu
        after = process.rss_bytes(running.pid)
        closed = sum(map(has_ended, clients))
    except OSError as failure:
        raise Unusable(f"after {len(clients)} connections: {failure}") from failure
    finally:
        for client in clients:
            client.close()
    if closed:
        raise Unusable(f"closed {closed} of {len(clients)} idle connections after {elapsed:.0f} s")
    return Sample(
        cost=(after - before) / 1024 / workload.connections,
        rate=workload.connections / elapsed,
        p99_ms=0.0,
        rss_mib=after / 2**20,
        busy=cpu / elapsed,
        foreign=0.0,
        stolen=0.0,
        errors=0,
    )


def open_connections(clients: list[socket.socket], count: int, port: int, workload: Workload) -> None:
    """Append ``count`` connections that have had one request answered, ``AT_ONCE`` at a time. Raises OSError."""
    while count:
        batch = [connect(port, len(clients) + n) for n in range(min(AT_ONCE, count))]
        clients += batch
        count -= len(batch)
        for client in batch:
            client.sendall(workload.request())
        for client in batch:
            if not workload.right(read_answer(client)):
                raise ConnectionError("not answered")


def connect(port: int, number: int) -> socket.socket:
    """The kernel chooses ports fastest when it also chooses the address, so the first ones leave it to it."""
    address = number // PER_ADDRESS
    return socket.create_connection(("127.0.0.1", port), 10, (f"127.0.0.{1 + address}", 0) if address else None)


def has_ended(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
