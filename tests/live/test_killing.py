"""Workers killed under load: only what was on the killed worker's connections fails, and nobody is ever refused."""

from __future__ import annotations

import sys
from collections.abc import Callable

from server import REPOSITORY, Server, until

sys.path.insert(0, str(REPOSITORY))
from bench.killing import APP, Client, kill

Start = Callable[..., Server]


def test_only_requests_of_killed_workers_fail(server: Start) -> None:
    up = server("domain * {\n    route /pid pid\n}\n", app=APP, workers=4)

    def four() -> list[int]:
        until(lambda: len(up.workers) == 4, "four workers")
        return up.workers

    def go_on(clients: list[Client]) -> None:
        before = [client.served for client in clients]
        for client, count in zip(clients, before, strict=True):
            until(lambda client=client, count=count: client.served > count + 5, "more answers")

    assert kill(up.port, four, 5, go_on) == ""
