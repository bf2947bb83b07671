"""pytest fixtures for applications, installed with gkore: ``gkore_server`` and ``gkore_client``.

Nothing of gkore is imported before a test asks for it, so that the plugin costs a run that does not use it nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gkore.testing.client import Client
    from gkore.testing.server import Server


@pytest.fixture
def gkore_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts real servers on free ports: ``gkore_server("app.py")``, ``("kore.conf")``, or a conf's text and ``app=``.

    Each lives until the end of the test, one of a text in a directory of its own, where its paths begin; keywords are
    those of ``gkore.testing.server``. The test fails when a server leaves a process behind, logs a
    traceback or does not end with status 0.
    """
    from gkore.testing.server import server

    with ExitStack() as stack:
        count = 0

        def start(what: str | Path = "", **options: Any) -> Server:
            nonlocal count
            count += 1
            directory = tmp_path / f"server{count}"
            directory.mkdir()
            conf: str | Path = what
            if isinstance(what, Path) or (what and "\n" not in what):
                options.setdefault("bind", "127.0.0.1:0")
                path = Path(what)
                conf = path if path.is_file() and path.suffix != ".py" else ""
                options.setdefault("script", "" if conf else path)
            return stack.enter_context(server(directory, conf, **options))

        yield start


@pytest.fixture
def gkore_client() -> Iterator[Callable[..., Client]]:
    """Makes clients that call handlers in this process: ``gkore_client("app.py").get("/")``; see ``gkore.testing``."""
    from gkore.testing.client import Client

    with ExitStack() as stack:

        def make(app: Any, **options: Any) -> Client:
            return stack.enter_context(Client(app, **options))

        yield make
