"""Fetch what is measured: `.venv-bench` with gkore and its peers, wrk and nginx from Debian.

What can't be had is left out, loudly.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from bench import kore
from bench.machine import first_line, shout
from bench.servers import BIN, COMPILED, COMPILED_AT, HERE, SUBJECT, VENV, Server

CHECKOUT = HERE.parent
DEBIAN = {"wrk": "wrk", "nginx": "nginx-light", "taskset": "util-linux"}
VERSIONS = """
import json, platform, timeit
from importlib.metadata import distributions
loop = min(timeit.repeat("for i in range(100000): x = i % 7", number=1, repeat=20)) * 1000
found = {"python": platform.python_version(), "python_loop": f"{loop:.1f} ms"}
print(json.dumps(found | {d.name.lower(): d.version for d in distributions()}))
"""
"""The loop is a yardstick: builds of one Python version differ in speed, and so do machines from hour to hour."""


def install(servers: Iterable[Server]) -> dict[str, str]:
    """Make everything ready and return the versions; a server whose parts are missing is found out by ``present``."""
    install_debian(servers)
    kinds = {server.name for server in servers}
    if kinds & {"kore", "kore-c"}:
        apt(kore.missing())
    if made_by() != str(Path(sys.base_prefix, "bin")):
        print(f"making {VENV.name} with {sys.executable} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    found = versions()
    for server in servers:
        if server.name == SUBJECT:
            if SUBJECT not in found or outdated():
                pip(server, "--editable", str(CHECKOUT))
        elif server.name == COMPILED:
            if not is_compiled_anew():
                compile_checkout(server)
        elif any(bare(package) not in found for package in server.packages):
            if server.name == "bjoern":
                install_headers()
            pip(server, *server.packages)
    if kinds & {"kore", "kore-c"}:
        kore.build()
    return versions()


def made_by() -> str:
    """The directory of the Python that made the venv (PEP 405's `home`); "" when there is none."""
    conf = VENV / "pyvenv.cfg"
    lines = conf.read_text().splitlines() if conf.exists() else []
    return next((line.partition("=")[2].strip() for line in lines if line.startswith("home")), "")


def versions() -> dict[str, str]:
    """The venv's Python and distributions; its wrk and nginx."""
    done = subprocess.run([str(BIN / "python"), "-c", VERSIONS], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    found["wrk"] = " ".join(first_line("wrk", "-v").split()[:2])
    found["nginx"] = first_line("nginx", "-v").rpartition("/")[2]
    found["kore"] = kore.version()
    return found


def bare(package: str) -> str:
    """`uvicorn[standard]>=1` -> `uvicorn`."""
    return package.partition(">")[0].partition("[")[0]


def outdated() -> bool:
    """Whether setup.cfg (dependencies, entry points) changed since gkore was installed."""
    installed = [path.stat().st_mtime for path in VENV.glob("lib/*/site-packages/gkore-*.dist-info")]
    return max(installed, default=0.0) < (CHECKOUT / "setup.cfg").stat().st_mtime


def is_compiled_anew() -> bool:
    """Whether nothing has changed since the compiled gkore was installed."""
    sources = [CHECKOUT / "setup.py", *CHECKOUT.glob("gkore/**/*.py")]
    installed = COMPILED_AT / "gkore" / "__init__.py"
    return installed.exists() and installed.stat().st_mtime >= max(path.stat().st_mtime for path in sources)


def compile_checkout(server: Server) -> None:
    """This checkout again, beside the venv's, with its hot path compiled; half a minute."""
    apt([] if shutil.which("cc") else ["gcc", "libc6-dev"])
    shutil.rmtree(COMPILED_AT, ignore_errors=True)
    with tempfile.TemporaryDirectory() as directory:  # what is built must not lie in the checkout
        copy = Path(directory, "gkore")
        shutil.copytree(CHECKOUT, copy, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "results"))
        pip(server, "--no-deps", "--target", str(COMPILED_AT), str(copy), GKORE_COMPILE="1")
    with suppress(OSError):
        (COMPILED_AT / "gkore" / "__init__.py").touch()


def pip(server: Server, *words: str, **environment: str) -> None:
    print(f"installing {server.name} ...", file=sys.stderr, flush=True)
    command = [str(BIN / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    if done.returncode:
        shout(f"pip can't install {server.name}:\n{done.stderr.strip()[-600:]}")


def install_debian(servers: Iterable[Server]) -> None:
    wanted = {"wrk", "taskset"} | ({"nginx"} & {server.name for server in servers})
    apt([DEBIAN[program] for program in sorted(wanted) if not shutil.which(program)])


def install_headers() -> None:
    """bjoern is compiled: libev's and Python's headers, and a C compiler."""
    missing = [] if Path("/usr/include/ev.h").exists() else ["libev-dev"]
    missing += [] if shutil.which("cc") else ["gcc", "libc6-dev"]
    missing += [] if Path(sysconfig.get_path("include"), "Python.h").exists() else ["python3-dev"]
    apt(missing)


def apt(packages: list[str]) -> None:
    if not packages:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if os.geteuid() or not shutil.which("apt-get"):
        shout(f"missing and can't be installed by this user: {' '.join(command)}")
        return
    print(f"installing {' '.join(packages)} ...", file=sys.stderr, flush=True)
    subprocess.run(["apt-get", "update"], capture_output=True, check=False)
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # nginx must not start by itself
    done = subprocess.run(command, capture_output=True, text=True, env=quiet, check=False)
    if done.returncode:
        shout(f"apt-get can't install {' '.join(packages)}:\n{done.stderr.strip()[-600:]}")


def present(server: Server, found: dict[str, str]) -> bool:
    """Whether it can be measured; says loudly why not."""
    missing = [package for package in server.packages if bare(package) not in found]
    if not missing and server.binary():
        return True
    if server.name in ("kore", "kore-c") and (packages := kore.missing()):
        shout(f"{server.name} is left out: on Debian or Ubuntu, apt-get install {' '.join(packages)}; or set KORE_BIN")
    else:
        shout(f"{server.name} is left out: {', '.join(missing) or server.name} is not installed")
    return False
