"""The user's application: its modules, and finding functions and hooks in them by name.

Hooks have two names, Kore 3's functions and Kore 4's attributes of a module-level object called ``koreapp``:

    hook                 function                  attribute      called in
    parent_configure     kore_parent_configure     configure      parent, with the list of arguments
    parent_teardown      kore_parent_teardown      cleanup        parent, at its end
    parent_daemonized    kore_parent_daemonized    daemonized     parent, when it left its terminal
    worker_configure     kore_worker_configure     workerstart    each worker, before it accepts
    worker_teardown      kore_worker_teardown      workerstop     each worker, at its end
    worker_signal        kore_worker_signal        signal         each worker, with the number of a signal
    message              -                         onmsg          each worker, with an object of kore.sendobj
    seccomp              -                         seccomp        each worker, with the sandbox

The attribute comes first, then the first function in load order (Kore 4). Hooks may take fewer arguments than they are
given: the reference declares kore_parent_configure with one, Kore 3.2's own example with none.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from gkore.conf.diagnostics import Mistake, nearest
from gkore.conf.loading import source_line
from gkore.conf.settings import Settings
from gkore.conf.site import Asset, Function, Place, Route, Site

ASSETS = "assets"

HOOKS = {
    "parent_configure": "configure",
    "parent_teardown": "cleanup",
    "parent_daemonized": "daemonized",
    "worker_configure": "workerstart",
    "worker_teardown": "workerstop",
    "worker_signal": "signal",
    "message": "onmsg",
    "seccomp": "seccomp",
}


@dataclass(slots=True)
class Promise:
    """A route of ``@kore.route``: which domain it belongs to is settled when the server starts (Kore 4.2)."""

    route: Route
    domain: str


class Application:
    """What is served: the site, the settings, the modules; filled by the reader and by ``kore.server`` and its like."""

    def __init__(self, arguments: list[str] | None = None, script: str = "") -> None:
        self.site = Site()
        self.settings = Settings()
        self.arguments = arguments or ["gkore"]
        """As handed to kore_parent_configure: the program's name, then the words behind the script."""
        self.script = script
        self.modules: list[ModuleType] = []
        """In load order, which is the order in which names are looked up."""
        self.onloads: list[tuple[ModuleType, Function]] = []
        self.no_chroot = self.no_runas = self.daemonize = self.foreground = False
        self.refused = ""
        """Why newer code than this is not served: browsers are shown it, with ``deployment dev``."""
        self.stands_in = False
        """There is no code yet that could be served: nobody but clients on this machine is told why."""
        self.promises: list[Promise] = []
        self.sources: dict[str, list[str]] = {}
        """The lines of every conf read, for mistakes that only the whole site shows."""
        self.files: list[str] = []
        self.spoiled: list[object] = []
        """Parts of the site whose blocks have wrong lines: what they lack may be just that line."""
        self.databases: set[str] = set()
        """Names that ``kore.dbsetup`` has made known so far."""
        self.configured = False
        """koreapp.configure has run: the parent's hook must not run it again."""
        self.hear_children: Callable[[], None] = lambda: None
        """Gives SIGCHLD back to the application, whose parent hooks may start processes and wait for them."""
        self.settle: Callable[[], None] = lambda: None
        """Completes the site after kore_parent_configure, which may add addresses (``kore.bind`` of Kore 3)."""

    def function(self, name: str) -> Function:
        """The callable of that name, ``object.attribute`` included, in the first module that has one.

        LookupError, with the nearest name, when there is none. Kore looks into its own binary first, so that a handler
        called ``index`` is C's; only Python is searched here.
        """
        for module in self.modules:
            found: Any = module
            for part in name.split("."):
                found = getattr(found, part, None)
            if callable(found):
                return found  # type: ignore[no-any-return]
        asset = find_asset(name)
        if asset is not None:
            return asset
        near = self.nearest_function(name)
        raise LookupError(f"there is no function {name}" + (f', did you mean "{near}"?' if near else ""))

    def nearest_function(self, name: str) -> str:
        """The function's name that ``name`` was probably meant to be, or ""."""
        return nearest(name, (known for module in self.modules for known in functions(module, "." in name)))

    def hook(self, name: str) -> Function | None:
        """The hook of that name (see the table on top), fitted to the arguments that it takes; None without one."""
        name = name.removeprefix("kore_")
        found = self._attribute(HOOKS[name]) if not (name == "parent_configure" and self.configured) else None
        found = found or self._function(f"kore_{name}")
        hook = fitted(found) if found else None
        return self._settling(hook) if name == "parent_configure" else hook

    def has_hook(self, name: str) -> bool:
        """Whether the application has the hook of that name."""
        return (self._attribute(HOOKS[name]) or self._function(f"kore_{name}")) is not None

    def _settling(self, hook: Function | None) -> Function:
        """kore_parent_configure and then what completes the site."""

        def configure(*arguments: Any) -> Any:
            result = hook(*arguments) if hook else None
            self.settle()
            return result

        return configure

    def _attribute(self, name: str) -> Function | None:
        for module in self.modules:
            found = getattr(getattr(module, "koreapp", None), name, None)
            if callable(found):
                return found  # type: ignore[no-any-return]
        return None

    def _function(self, name: str) -> Function | None:
        found = (getattr(module, name, None) for module in self.modules)
        return next((function for function in found if callable(function)), None)

    def configure(self) -> None:
        """Run ``koreapp.configure(arguments)`` of a script, before the conf is read (Kore 4)."""
        found = self._attribute("configure")
        if found and not self.configured:
            self.configured = True
            fitted(found)(self.arguments)

    def is_spoiled(self, part: object) -> bool:
        return any(part is one for one in self.spoiled)

    def source(self, place: Place) -> str:
        """The line of a conf at a place, or ""."""
        lines = self.sources.get(place.file)
        if lines is None:
            return source_line(place.file, place.line)
        return lines[place.line - 1] if 0 < place.line <= len(lines) else ""

    def mistake(self, place: Place, message: str, expected: str = "", suggestion: str = "") -> Mistake:
        """A mistake at a place that was kept from reading."""
        source = self.source(place)
        rest = source[max(0, place.column - 1) :].split()
        return Mistake(place, message, source, len(rest[0]) if rest else 1, expected, suggestion)


def find_asset(name: str) -> Asset | None:
    """What ``asset_serve_NAME_EXT`` serves: ``assets/NAME.EXT``; ``_`` stands for all but letters and digits."""
    wanted = name.removeprefix("asset_serve_")
    if wanted != name and os.path.isdir(ASSETS):
        for file in sorted(os.listdir(ASSETS)):
            if re.sub(r"[^A-Za-z0-9]", "_", file) == wanted:
                return Asset(os.path.abspath(ASSETS), file)
    return None


def functions(module: ModuleType, attributes: bool = False) -> Iterator[str]:
    """The names of a module's own callables; with ``attributes`` also those of its objects, dotted."""
    for name, value in vars(module).items():
        if name.startswith("__"):
            continue
        if callable(value) and not inspect.isclass(value):
            yield name
        if attributes and not inspect.ismodule(value) and not isinstance(value, (str, int, float, list, dict, tuple)):
            yield from (f"{name}.{inner}" for inner in dir(value) if not inner.startswith("_"))


def fitted(function: Function) -> Function:
    """``function``, called with as many of the arguments as it takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return function
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return function
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    takes = sum(parameter.kind in positional for parameter in parameters)

    def call(*arguments: Any) -> Any:
        return function(*arguments[:takes])

    return call


_current: Application | None = None


def current() -> Application:
    """The application that ``kore.server`` and its like fill; made on demand: ``import kore`` works anywhere."""
    global _current
    if _current is None:
        _current = Application()
    return _current


def adopt(application: Application) -> Application:
    """Make ``application`` the current one."""
    global _current
    _current = application
    return application
