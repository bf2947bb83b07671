"""Packages that the application needs, imported once in the warm process, so that no reload imports them again.

The project itself never is. What is installed (beneath site-packages or the standard library) is tried aside first: a
package that starts threads, opens files or sockets, makes a hub, imports the project or fails is left alone, because
what it makes at import belongs into the process that uses it. Environment variables are those that the application had
set by then. Nothing is done for an application that starts quickly anyhow.
"""

from __future__ import annotations

import importlib
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from posix import fork, waitpid
from typing import Any

QUICK = 0.1
"""Seconds: who needs no more to import has nothing to gain."""
OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
MODULES_MAX = 3000


def installed_folders() -> tuple[str, ...]:
    """Where installed modules live."""
    paths = sysconfig.get_paths()
    found = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    found |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple(f"{os.path.realpath(folder)}{os.sep}" for folder in sorted(found))


def findings(known: frozenset[str]) -> dict[str, Any]:
    """What a master that serves tells the warm process: what was imported beyond ``known``, from where, in what
    environment, and which folders are the project's."""
    folders = installed_folders()
    modules, projects = [], set()
    for name, module in list(sys.modules.items()):
        file = os.path.realpath(getattr(module, "__file__", None) or "") if name not in known else ""
        if not file.endswith((".py", ".so")) or file.startswith(OURS):
            continue
        if file.startswith(folders):
            modules.append(name)
        elif os.path.isfile(file):
            projects.add(os.path.dirname(file))
    return {"modules": modules[:MODULES_MAX], "folders": sorted(projects), "environment": dict(os.environ)}


def warm(modules: Iterable[str], environment: dict[str, str]) -> list[str]:
    """Import what is harmless of ``modules``; the names of the packages that were."""
    packages: dict[str, list[str]] = {}
    for name in modules:
        if name not in sys.modules:
            packages.setdefault(name.partition(".")[0], []).append(name)
    with changed_environment(environment):
        return [package for package, names in packages.items() if harmless(names) and import_all(names)]


def harmless(names: list[str]) -> bool:
    """Whether importing these leaves nothing behind but modules, found out in a process that is thrown away."""
    pid = fork()
    if pid == 0:
        verdict = 1
        try:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)
            os.dup2(null, 2)
            before = traces()
            verdict = 0 if import_all(names) and traces() == before and not strangers() else 1
        finally:
            os._exit(verdict)
    return waitpid(pid, 0)[1] == 0


def import_all(names: list[str]) -> bool:
    try:
        for name in names:
            importlib.import_module(name)
    except BaseException:
        return False
    return True


def traces() -> tuple[int, set[str]]:
    """Threads and open descriptors; a hub is several of these."""
    return len(os.listdir("/proc/self/task")), set(open_files())


def open_files() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        try:
            yield f"{name} {os.readlink(f'/proc/self/fd/{name}')}"
        except FileNotFoundError:  # what listdir itself had open
            continue


def strangers() -> bool:
    """Whether something of the project was imported."""
    folders = (*installed_folders(), OURS)
    files = (os.path.realpath(getattr(module, "__file__", None) or "") for module in list(sys.modules.values()))
    kore = os.path.join(os.path.dirname(OURS.rstrip(os.sep)), "kore.py")
    return any(file.endswith(".py") and not file.startswith(folders) and file != kore for file in files)


@contextmanager
def changed_environment(environment: dict[str, str]) -> Iterator[None]:
    """As it is in the application, which may have set what packages look at when they are imported."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
