"""Fixtures of the live tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from server import Server
from server import server as running

Start = Callable[..., Server]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Start]:
    """Starts servers that live until the end of the test, each in a directory of its own: see ``server.server``."""
    with ExitStack() as stack:
        count = 0

        def start(conf: str | Path = "", **options: object) -> Server:
            nonlocal count
            count += 1
            directory = tmp_path / f"server{count}"
            directory.mkdir()
            return stack.enter_context(running(directory, conf, **options))

        yield start
