"""From a script, a conf or both to an application that can be served: everything that ``gkore --check`` checks.

Kore 4's order: the script is imported, koreapp.configure runs, the conf is read, settings are final. The command line
comes last, because it overrides; nothing is bound and nothing forked here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace

from gkore import log
from gkore.conf.application import Application
from gkore.conf.diagnostics import Mistake, Wrong, in_order
from gkore.conf.inspection import bus, inspect, settle
from gkore.conf.loading import ImportFailure, load
from gkore.conf.openapi_page import add_routes
from gkore.conf.reader import read_conf
from gkore.errors import ConfError, StartError


def nothing(application: Application) -> None:
    """No overrides."""


def assemble(application: Application, conf: str = "", override: Callable[[Application], None] = nothing) -> None:
    """Fill ``application`` from its script and the conf. ConfError with all mistakes, StartError for other refusals."""
    conf = os.path.abspath(conf) if conf and application.script else conf
    if application.script:
        load_script(application)
        conf = conf or application.settings.file or beside(application.script)
    mistakes = read_conf(application, conf) if conf else []
    override(application)
    mistakes = strict(application, [*mistakes, *inspect(application)])
    if mistakes:
        raise ConfError(in_order(mistakes, application.files))
    add_routes(application.site)
    deploy(application)
    application.settings.freeze()
    application.settle = lambda: complete(application)


def beside(script: str) -> str:
    """The kore.conf of a package, as Kore 3's ``pyko`` wants it."""
    conf = os.path.join(script, "kore.conf")
    return os.path.abspath(conf) if os.path.isfile(conf) else ""


def load_script(application: Application) -> None:
    """Import the script or package and run its koreapp.configure; a package becomes the working directory (Kore 4)."""
    script = application.script
    try:
        if os.path.isfile(script) and not script.lower().endswith(".py"):
            raise Wrong(f"no runtime available to run {script}", expected="a file whose name ends in .py, or a package")
        if os.path.isdir(script):
            sys.path.insert(0, os.path.abspath(script))
        application.modules.append(load(script, first=True))
    except Wrong as why:
        expected = f"; expected: {why.expected}" if why.expected else ""
        if ":" in script:  # as gunicorn and uvicorn want it
            expected += f"; a WSGI application is a route of a conf: wsgi {script}"
        raise StartError(f"{why.message}{expected}") from None
    except ImportFailure as failure:
        raise ConfError([replace(failure.mistake(), detail=failure.traceback())]) from None
    application.script = os.path.abspath(script)
    if os.path.isdir(script):
        os.chdir(script)
    configure(application)


def configure(application: Application) -> None:
    try:
        application.configure()
    except Exception as failure:
        raised = ImportFailure(application.script, failure)
        mistake = replace(raised.mistake(), detail=raised.traceback())
        raise ConfError([replace(mistake, message=f"koreapp.configure raised {mistake.message}")]) from None


def strict(application: Application, found: Iterable[Mistake]) -> list[Mistake]:
    """The mistakes that count: with ``config_strict no`` only those that are Kore's, too."""
    mistakes = list(found)
    if application.settings.config_strict:
        return mistakes
    for mistake in mistakes:
        if mistake.lenient:
            log.notice(f"ignoring {mistake.place}: {mistake.message}")
    return [mistake for mistake in mistakes if not mistake.lenient]


def deploy(application: Application) -> None:
    """What ``deployment`` implies, where the command line doesn't say otherwise (Kore 4)."""
    deployment = application.settings.deployment
    if deployment in ("dev", "development"):
        application.no_chroot = application.no_runas = True
    if deployment == "production" and not application.foreground:
        application.daemonize = True


def complete(application: Application) -> None:
    """After kore_parent_configure: what it declared gets its place. StartError, with all mistakes, when it can't."""
    mistakes = strict(application, [*settle(application), *bus(application)])
    if mistakes:
        raise StartError("\n".join(mistake.render() for mistake in mistakes))


def summary(application: Application) -> str:
    """``1 server, 2 domains, 7 routes``."""
    site = application.site
    counts = {
        "server": len(site.servers),
        "domain": len(site.domains),
        "route": sum(len(domain.routes) + len(domain.filemaps) for domain in site.domains),
    }
    return ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counts.items())
