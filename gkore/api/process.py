"""``kore.log``, ``kore.time``, ``kore.tracer`` and what ends a worker or the server."""

from __future__ import annotations

import os
import sys
from time import monotonic
from typing import NoReturn

from setproctitle import setproctitle

from gkore import log as lines
from gkore.protocol.bus import Kind
from gkore.protocol.slot import Exit
from gkore.worker import bus, failures


def log(priority: int, string: str) -> bool:
    """Log a line of text with one of the ``kore.LOG_`` priorities."""
    lines.log.write(priority, string)
    return True


def time() -> int:
    """Milliseconds of the monotonic clock, for measuring spans."""
    return int(monotonic() * 1000)


def tracer(method: failures.Tracer) -> bool:
    """Call ``method(type, value, traceback)`` for every uncaught exception. RuntimeError when one is set already."""
    failures.set_tracer(method)
    return True


def worker() -> int | None:
    """This worker's number, from 1; None in the parent (Kore 4)."""
    end = bus.end()
    return None if end is None else end.number


def setname(name: str) -> None:
    """Change the process title and the name before log lines (Kore 4)."""
    lines.log.process = name
    setproctitle(name)


def fatal(reason: str) -> NoReturn:
    """Log ``reason`` and end this worker; ``worker_death_policy`` decides what follows. In the parent: no start."""
    lines.error(reason)
    _leave(Exit.FATAL)


def fatalx(reason: str) -> NoReturn:
    """Log ``reason`` and end the whole server with exit status 1."""
    lines.error(reason)
    _leave(Exit.FATALX)


def shutdown() -> bool:
    """Ask the parent to stop the server, exit status 0. RuntimeError in the parent."""
    end = bus.end()
    if end is None:
        raise RuntimeError("kore.shutdown: called from parent")
    end.send(Kind.SHUTDOWN)
    return True


def _leave(status: int) -> NoReturn:
    if bus.end() is None:
        sys.exit(Exit.START)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
