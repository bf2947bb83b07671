"""A server while it runs: started pinned, probed until it answers as all must, stopped with all its children."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import process
from bench.machine import Cores, on_cores
from bench.servers import Place, Server
from bench.workloads import STATIC, Workload

START_SECONDS = 20.0
STOP_SECONDS = 5.0


class Unusable(Exception):
    """This server can't be measured with this workload; the text says why."""


@dataclass(slots=True, frozen=True)
class Running:
    """A server that answers on 127.0.0.1:``port``; ``pid`` is the root of its tree."""

    server: Server
    port: int
    pid: int
    answer_bytes: int
    """Size of one whole answer, head and body, so that the report can show how unlike the answers are."""


@contextmanager
def run(server: Server, workload: Workload, cores: Cores) -> Iterator[Running]:
    """Start ``server`` for ``workload``. Raises Unusable when it does not come up or answers something else."""
    with tempfile.TemporaryDirectory(prefix=f"bench-{server.name}-") as directory:
        os.chmod(directory, 0o755)  # nginx's worker is another user
        place = Place(free_port(), Path(directory), server.workers or workload.workers)
        lay_out(place.directory)
        if workload.tls:
            certify(place.directory, workload.tls)
        output = Path(directory, "output")
        with output.open("wb") as file:
            child = subprocess.Popen(
                on_cores(cores.server, server.command(place, server.apps[workload.app])),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        try:
            size = wait_for_answer(child, place.port, workload, output)
            require_depth(place.port, workload, size)
            yield Running(server, place.port, child.pid, size)
        finally:
            stop(child)


def lay_out(directory: Path) -> None:
    """The files of the static workloads."""
    static = directory / "static"
    static.mkdir()
    for name, content in STATIC.items():
        (static / name).write_bytes(content)


def certify(directory: Path, kind: str) -> None:
    """tls.pem and tls.key, as every server of a workload over TLS has them."""
    words = {"ec": ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], "rsa": ["rsa:2048"]}[kind]
    files = ["-keyout", str(directory / "tls.key"), "-out", str(directory / "tls.pem")]
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-newkey", *words, *files]
    subprocess.run(command, check=True, capture_output=True)


def connected(port: int, workload: Workload) -> socket.socket:
    """A connection of the probe, which trusts any certificate."""
    client = socket.create_connection(("127.0.0.1", port), timeout=2)
    if not workload.tls:
        return client
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(client)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def wait_for_answer(child: subprocess.Popen[bytes], port: int, workload: Workload, output: Path) -> int:
    """The size of the answer, once it is the right one."""
    deadline = time.monotonic() + START_SECONDS
    last = "it does not listen"
    while time.monotonic() < deadline and child.poll() is None:
        try:
            with connected(port, workload) as client:
                client.sendall(workload.request())
                answer = read_answer(client)
        except OSError as failure:
            last = str(failure)
        else:
            last = repr(answer[:300])
            if workload.right(answer):
                return len(answer)
        time.sleep(0.05)
    tail = output.read_text(errors="replace").strip()[-800:]
    raise Unusable(f"{last}; exit status {child.poll()}; it said:\n{tail or 'nothing'}")


def require_depth(port: int, workload: Workload, size: int) -> None:
    """Raises Unusable when part of a pipelined write stays unanswered (RFC 9112 9.3.2); bjoern answers one only."""
    if workload.message:
        return
    data, wanted = b"", workload.depth
    with connected(port, workload) as client:
        client.sendall(workload.request() * wanted)
        try:
            while len(data) < size * wanted and (chunk := client.recv(65536)):
                data += chunk
        except OSError:
            pass
    answered = data.count(b"HTTP/1.1 200")
    if answered != wanted:
        raise Unusable(f"answers {answered} of {wanted} requests written at once")


def read_answer(client: socket.socket) -> bytes:
    """One answer with a Content-Length, or what there was before the end. Raises OSError."""
    data = b""
    while chunk := client.recv(65536):
        data += chunk
        head, blank, body = data.partition(b"\r\n\r\n")
        if blank and len(body) >= content_length(head):
            break
    return data


def content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def stop(child: subprocess.Popen[bytes]) -> None:
    """TERM, then KILL for whatever is left of the tree."""
    family = set(process.tree(child.pid))
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    for pid in family:
        found = process.stat(pid)
        if found and session(pid) == child.pid:
            os.kill(pid, signal.SIGKILL)
    child.wait()


def session(pid: int) -> int:
    """0 when the process has gone; a pid that was given to somebody else is in another session."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0
