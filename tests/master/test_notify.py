"""sd_notify: what a service manager would read."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gkore.master import notify


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    name = str(tmp_path / "notify") if request.param == "file" else f"@gkore-notify-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0"))
        sock.settimeout(5)
        yield sock


def fields(manager: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())


def test_ready(manager: socket.socket) -> None:
    notify.ready("ready: 2 workers")
    assert fields(manager) == {"READY": "1", "STATUS": "ready: 2 workers", "MAINPID": str(os.getpid())}


def test_reloading_carries_the_clock(manager: socket.socket) -> None:
    notify.reloading()
    got = fields(manager)
    assert got["RELOADING"] == "1"
    assert int(got["MONOTONIC_USEC"]) > 0


def test_stopping(manager: socket.socket) -> None:
    notify.stopping("SIGTERM")
    assert fields(manager) == {"STOPPING": "1", "STATUS": "SIGTERM"}


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.ready("nobody listens")


def test_a_manager_that_is_gone_is_only_logged(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/no/such/socket")
    notify.ready("nobody listens")
    assert "NOTIFY_SOCKET /no/such/socket: No such file or directory" in capfd.readouterr().err
