"""SIGUSR1 when something is missing: what could not be done is tried again, and the master lives."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gkore.keys import aside
from gkore.master import renewal


def fail(*_: object) -> int:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def fleet_of(folder: Path, apart: bool) -> Any:
    pair = [folder / "chain.pem", folder / "key.pem"]
    for path in pair:
        path.write_text("before")
    domain = SimpleNamespace(
        certfile=str(pair[0]), certkey=str(pair[1]), context=object(), name="a.example", place="kore.conf:1"
    )
    site = SimpleNamespace(domains=[domain], privseps={"keymgr": None} if apart else {})
    keymgr = SimpleNamespace(feed=lambda: "no process to read keys")
    return SimpleNamespace(application=SimpleNamespace(site=site), keymgr=keymgr, children={}, generation=1)


@pytest.mark.parametrize("apart", [True, False], ids=["key manager", "no process"])
def test_what_could_not_be_done_is_tried_again(tmp_path: Path, monkeypatch: Any, capfd: Any, apart: bool) -> None:
    renewing = renewal.Renewal(fleet_of(tmp_path, apart))
    monkeypatch.setattr(renewing, "_try", lambda domain: ("chain", ""))
    if not apart:
        monkeypatch.setattr(aside, "fork", fail)
    (tmp_path / "chain.pem").write_text("and after")
    for _ in range(2):
        renewing.begin()
        assert "all certificates stay" in capfd.readouterr().err


def test_no_descriptor_is_left_without_a_process(monkeypatch: Any) -> None:
    monkeypatch.setattr(aside, "fork", fail)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(BlockingIOError):
        aside.aside(str)
    assert os.listdir("/proc/self/fd") == before
