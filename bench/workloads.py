"""THE WORKLOADS: one row each. A new one is a row here, and a function per server in `bench/apps` for a new app."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlencode

from bench.servers import ALONE, SILENT
from bench.talk import handshake

# What Firefox sends for a page of its own site: ten headers beside Host, 560 bytes.
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.7,nl;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Connection": "keep-alive",
    "Cookie": "session=5f2b7c1e9a034d68; theme=dark; seen=1",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
}


@dataclass(slots=True, frozen=True)
class Goal:
    """gkore's median ratio to ``peer``: "cost" at most, "rate" at least ``limit``; peer "" is gkore's cost itself.

    "more" is a difference: gkore's cost at most ``limit`` over the peer's.
    """

    peer: str
    limit: float
    what: Literal["cost", "rate", "more"] = "cost"

    def __str__(self) -> str:
        if self.what == "more":
            return f"cost at most {self.limit:g} over {self.peer}'s"
        bound = "at most" if self.what == "cost" else "at least"
        return f"{self.what} {bound} {self.limit:g}" + (f" of {self.peer}'s" if self.peer else "")


@dataclass(slots=True, frozen=True)
class Workload:
    """One load; ``cost`` is what it is judged by: CPU microseconds a request, or KiB a connection for "idle"."""

    name: str
    doc: str
    app: str = "hello"
    """Which application answers: a key of every server's ``apps``; a server without it sits this workload out."""
    target: str = ""
    """What is asked for, when it isn't /APP."""
    form: tuple[str, bytes] | None = None
    """Content type and body of a POST; None is a GET."""
    answer: bytes = b"hello world"
    load: Literal["wrk", "idle", "talk", "turns"] = "wrk"
    asking: int = 0
    """How many of the connections ask, of "turns"; 0 is all of them."""
    message: int = 0
    """Bytes of a websocket message; then what is asked for first is a handshake."""
    connections: int = 64
    workers: int = 1
    """Of gkore and Kore; the others have one process, on the same core."""
    tls: Literal["", "ec", "rsa"] = ""
    """The kind of the server's key; none is plain HTTP."""
    depth: int = 1
    """Requests written at once on a connection before their answers are awaited."""
    headers: dict[str, str] = field(default_factory=dict)
    cookies: int = 0
    """So many clients take turns, each with a cookie of its own; 0 is none."""
    goals: tuple[Goal, ...] = ()

    @property
    def path(self) -> str:
        return self.target or f"/{self.app}"

    def request(self) -> bytes:
        """One request, as the probe sends it."""
        if self.message:
            return handshake(self.path)
        kind, body = self.form or ("", b"")
        head = f"{'POST' if self.form else 'GET'} {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        if self.form:
            head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"\r\n" + body

    def right(self, answer: bytes) -> bool:
        """Whether this is the answer that all servers must give."""
        head, _, body = answer.partition(b"\r\n\r\n")
        if self.message:
            return head.startswith(b"HTTP/1.1 101")
        return head.startswith(b"HTTP/1.1 200") and b"text/plain" in head.lower() and body == self.answer

    @property
    def unit(self) -> str:
        if self.load == "idle":
            return "KiB/connection"
        if self.load == "turns":
            return "of its CPU/request with 64 connections"
        return "CPU us/message" if self.message else "CPU us/request"


URLENCODED = "application/x-www-form-urlencoded"
TEXT = "The quick brown fox jumps over the lazy dog. " * 22
FORM = urlencode({"id": "4711", "name": "Ada Lovelace", "text": TEXT}).encode()
MEBIBYTE = bytes(range(256)) * 4096
UPLOAD = (
    b'--bench-boundary\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" + MEBIBYTE + b"\r\n--bench-boundary--\r\n"
)
STATIC = {"1k.txt": b"x" * 1024, "1m.txt": b"x" * 1048576}
"""The files that every server finds below static/ in its directory."""

ECHO_GOALS = (Goal("uvicorn", 0.65), Goal("kore", 1.0))
HELLO_GOALS = (
    Goal("uvicorn", 0.6),
    Goal("granian", 0.7),
    Goal("bjoern", 1.15),
    Goal("kore", 0.85),
    Goal("nginx", 1.35),
)
BROWSER_GOALS = (Goal("uvicorn", 0.48), Goal("granian", 0.55), Goal("bjoern", 1.0), Goal("kore", 0.95))
LOG_GOALS = (Goal(SILENT, 1.0, "more"),)

WORKLOADS = (
    Workload("hello", "a plain `def` handler answers 11 bytes", goals=HELLO_GOALS),
    Workload("hello-async", "the same from an `async def` handler", app="hello-async", goals=HELLO_GOALS),
    Workload("browser", "ten headers as a browser sends them", headers=BROWSER, goals=BROWSER_GOALS),
    Workload(
        "browsers",
        "ten headers of 5,000 browsers in turn: nothing repeats",
        headers={name: value for name, value in BROWSER.items() if name != "Cookie"},
        cookies=5000,
        goals=(Goal("uvicorn", 0.48),),
    ),
    Workload("logged", "hello with an access log", app="logged", target="/hello", goals=LOG_GOALS),
    Workload("logged-json", "the same in JSON", app="logged-json", target="/hello", goals=LOG_GOALS),
    Workload("pipelined", "16 requests written at once", depth=16, goals=(Goal("nginx", 2.5, "rate"),)),
    Workload(
        "pair",
        "two workers on two cores beside one, the load generator nice",
        app="pair",
        target="/hello",
        workers=2,
        goals=(Goal(ALONE, 1.9, "rate"), Goal(ALONE, 1.05)),
    ),
    Workload("suspend", "the handler waits 1 ms", app="suspend", goals=(Goal("uvicorn", 0.7), Goal("kore", 1.1))),
    Workload("lock", "64 requests through one lock", app="lock", goals=(Goal("uvicorn", 0.75),)),
    Workload("queue", "there and back through two queues", app="queue", goals=(Goal("uvicorn", 0.75),)),
    Workload("gather", "ten coroutines that wait once", app="gather", goals=(Goal("uvicorn", 1.5),)),
    Workload("postgres", "a row of PostgreSQL by its key", app="postgres", goals=(Goal("uvicorn", 1.2),)),
    Workload("proc", "through a child process and back", app="proc", connections=8, goals=(Goal("uvicorn", 1.0),)),
    Workload("idle", "10,000 idle keep-alive connections", load="idle", connections=10_000, goals=(Goal("", 10),)),
    Workload(
        "crowd-idle",
        "10,000 connections, 64 of them ask",
        app="crowd",
        target="/hello",
        load="turns",
        connections=10_000,
        asking=64,
        goals=(Goal("", 1.3),),
    ),
    Workload(
        "crowd",
        "10,000 connections ask in turn",
        app="crowd",
        target="/hello",
        load="turns",
        connections=10_000,
        goals=(Goal("", 1.3),),
    ),
    Workload(
        "fresh", "a new connection for every request", headers={"Connection": "close"}, goals=(Goal("uvicorn", 0.9),)
    ),
    Workload(
        "tls", "hello over TLS 1.3, kept alive", app="tls", target="/hello", tls="ec", goals=(Goal("uvicorn", 1.0),)
    ),
    Workload(
        "tls-ecdsa",
        "a full handshake for every request, ECDSA P-256",
        app="tls",
        target="/hello",
        tls="ec",
        headers={"Connection": "close"},
        goals=(Goal("uvicorn", 1.0),),
    ),
    Workload(
        "tls-rsa",
        "a full handshake for every request, RSA-2048",
        app="tls",
        target="/hello",
        tls="rsa",
        headers={"Connection": "close"},
        goals=(Goal("uvicorn", 1.0),),
    ),
    Workload(
        "params",
        "three validated parameters in the query string",
        app="params",
        target="/params?id=4711&name=Ada+Lovelace&page=12&ignored=1",
        answer=b"4711 Ada Lovelace 12",
        goals=(Goal("starlette", 0.6),),
    ),
    Workload(
        "form",
        "a form of 1 KiB, three validated fields",
        app="form",
        form=(URLENCODED, FORM),
        answer=f"4711 Ada Lovelace {len(TEXT)}".encode(),
        goals=(Goal("starlette", 0.6),),
    ),
    Workload(
        "upload",
        "a file of 1 MiB as multipart form",
        app="upload",
        connections=16,
        form=("multipart/form-data; boundary=bench-boundary", UPLOAD),
        answer=b"1048576",
    ),
    Workload(
        "static-1k",
        "a file of 1 KiB",
        app="static",
        target="/static/1k.txt",
        answer=STATIC["1k.txt"],
        goals=(Goal("nginx", 2.0),),
    ),
    Workload(
        "static-1m",
        "a file of 1 MiB",
        app="static",
        target="/static/1m.txt",
        connections=16,
        answer=STATIC["1m.txt"],
        goals=(Goal("nginx", 0.9, "rate"),),
    ),
    Workload("ws-32", "websocket echo of 32 bytes", app="echo", load="talk", message=32, goals=ECHO_GOALS),
    Workload("ws-1k", "websocket echo of 1 KiB", app="echo", load="talk", message=1024, goals=ECHO_GOALS),
    Workload(
        "ws-64k", "websocket echo of 64 KiB", app="echo", load="talk", message=65536, goals=(Goal("uvicorn", 1.0),)
    ),
    Workload(
        "ws-broadcast",
        "a message of 1 KiB from one websocket to 1,000 others, on two workers of gkore",
        app="broadcast",
        load="talk",
        message=1024,
        connections=1001,
        workers=2,
        goals=(Goal("websockets", 1.0),),
    ),
    Workload(
        "ws-idle",
        "5,000 idle websockets",
        app="echo",
        load="idle",
        message=1,
        connections=5000,
        goals=(Goal("", 16),),
    ),
)
