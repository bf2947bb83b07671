"""``gkore run``: the real server with ``--dev``, and somebody beside it who says SIGHUP when a file changes.

The reload is the one of production: the new conf and code are tried aside first, and when they can't be had, the log
says why and the old ones are served on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from glob import glob
from types import FrameType

from gkore.develop.watching import changes
from gkore.errors import UsageError


def run(words: Sequence[str], application: str) -> int:
    """Serve until a signal or the server's own end; its exit status.

    ``application`` is the conf or script in ``words``. UsageError when none was named and none is here.
    """
    told = list(words)
    if not application:
        application = found()
        told += ["-c", application] if application.endswith(".conf") else [application]
    server = subprocess.Popen([sys.executable, "-m", "gkore", "--dev", *told])
    told_to_stop = pass_on(server)
    print("gkore: development: reloads when a file changes, shows tracebacks; Ctrl-C stops", file=sys.stderr)
    for changed in changes({os.getcwd(), os.path.dirname(os.path.abspath(application))}):
        if server.poll() is not None:
            break
        if changed and not told_to_stop:
            print(f"gkore: {named(changed)} changed", file=sys.stderr)
            server.send_signal(signal.SIGHUP)
    return server.wait()


def found() -> str:
    """The conf or script that this directory is about."""
    for name in ("kore.conf", "conf/kore.conf", "app.py", *sorted(glob("*/kore.conf"))):
        if os.path.isfile(name):
            folder = os.path.dirname(name)
            return folder if os.path.isfile(os.path.join(folder, "__init__.py")) else name
    raise UsageError("nothing to run: there is no kore.conf and no app.py here; gkore create NAME makes one")


def pass_on(server: subprocess.Popen[bytes]) -> list[int]:
    """Signals to stop are the server's; we end when it has ended. They are noted in the list."""
    told: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        told.append(number)
        if number != signal.SIGINT or not sys.stdin.isatty():  # a terminal tells the whole group
            server.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, stop)
    return told


def named(changed: set[str]) -> str:
    """The files, as somebody says it who names at most two."""
    names = sorted(os.path.relpath(path) for path in changed)
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
