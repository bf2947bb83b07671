"""Kore itself as a peer, from Debian's package: its program, which runs modules in C, and its sources.

The package's program has no Python; we build one that has, from the sources that come with it.
Kore 4.1 is older than Python 3.11: what it took from the interpreter's inside is gone since. ``apps/kore_since_311.h``
stands in for the one function, and its tracing of coroutines loses its line numbers; lengths become as wide as Python
has wanted them since 3.10. Nothing that is measured changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from bench.machine import first_line, shout
from bench.servers import APPS, KORE, KORE_MODULE, KORE_PYTHON

SOURCES = Path("/usr/share/kore")
HEADERS = Path("/usr/include/kore/http.h")
PARTS = ("kore", "gcc", "make", "libc6-dev", "libssl-dev", "python3-dev")
"""Debian's packages; Debian 12 and later have Kore 4.1."""
MENDS = (
    ("_PyGen_Send((PyGenObject *)coro->obj, NULL)", "drive(coro->obj)"),
    ("gen->gi_frame->f_code", "(PyCodeObject *)NULL"),
    ("gen->gi_frame", "(PyFrameObject *)NULL"),
    ("(int)ret", "(Py_ssize_t)ret"),
    ("int\t\top, len;", "int\t\top;\n\tPy_ssize_t\tlen;"),
    ("int\t\t\top, broadcast, len;", "int\t\t\top, broadcast;\n\tPy_ssize_t\t\tlen;"),
)


def missing() -> list[str]:
    """The Debian packages that are still wanted."""
    there = {
        "kore": bool(shutil.which("kore")) and SOURCES.exists(),
        "gcc": bool(shutil.which("cc")),
        "make": bool(shutil.which("make")),
        "libc6-dev": Path("/usr/include/stdlib.h").exists(),
        "libssl-dev": Path("/usr/include/openssl/ssl.h").exists(),
        "python3-dev": Path(sysconfig.get_path("include"), "Python.h").exists(),
    }
    return [package for package in PARTS if not there[package]]


def build() -> None:
    """Compile what isn't there yet, or is older than its source; a failure is told, and the peer left out."""
    KORE.mkdir(exist_ok=True)
    if HEADERS.exists() and shutil.which("cc") and outdated(KORE_MODULE, APPS / "kore_hello.c"):
        build_module()
    if "KORE_BIN" not in os.environ and not missing() and outdated(KORE_PYTHON, APPS / "kore_since_311.h"):
        build_python()


def build_module() -> None:
    """The application in C."""
    compiled(["cc", "-O2", "-fPIC", "-shared", "-o", str(KORE_MODULE), str(APPS / "kore_hello.c")], APPS)


def build_python() -> None:
    """Kore with PYTHON=1, for the Python that runs the bench."""
    tree = KORE / "source"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(SOURCES, tree)
    (tree / "objects").mkdir()
    program = tree / "src" / "python.c"
    text = program.read_text()
    for old, new in MENDS:
        text = text.replace(old, new)
    program.write_text(text)
    makefile = tree / "Makefile"
    makefile.write_text(makefile.read_text().replace(" -Werror ", " "))
    config = sysconfig.get_config_vars()
    places = f"-L{config['LIBDIR']} -L{config['LIBPL']} -Wl,-rpath,{config['LIBDIR']}"
    libraries = f"{places} -lpython{config['LDVERSION']} {config['LIBS']} {config['SYSLIBS']}"
    headers = f"-I{sysconfig.get_path('include')} -include {APPS / 'kore_since_311.h'}"
    words = ["PYTHON=1", "OBJDIR=objects", f"KORE_PYTHON_INC={headers}", f"KORE_PYTHON_LIB={libraries}"]
    if compiled(["make", *words, "kore"], tree):
        shutil.copy2(tree / "kore", KORE_PYTHON)
    shutil.rmtree(tree)


def compiled(command: list[str], directory: Path) -> bool:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        shout(f"Kore can't be compiled ({command[0]} in {directory}):\n{done.stderr.strip()[-600:]}")
    return not done.returncode


def outdated(made: Path, source: Path) -> bool:
    return not made.exists() or made.stat().st_mtime < source.stat().st_mtime


def version() -> str:
    """Of whichever Kore takes part; "" for none."""
    return first_line(os.environ.get("KORE_BIN") or "kore", "-v").partition(" ")[0]
