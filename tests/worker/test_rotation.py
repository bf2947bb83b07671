"""A worker takes over log files that the master has opened again, or says that it could not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gkore import log, logfile
from gkore.worker import rotation


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[logfile.LogFile]:
    monkeypatch.setattr(logfile, "_open", {})
    monkeypatch.setattr(log, "log", log.Log())
    log.log.open(str(tmp_path / "log"))
    opened = logfile.log_file(str(tmp_path / "access"))
    yield opened
    os.close(opened.descriptor)


def fresh(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def test_each_descriptor_takes_the_place_of_its_file(file: logfile.LogFile, tmp_path: Path) -> None:
    numbers = log.log.descriptor, file.descriptor
    given = [fresh(tmp_path / name) for name in ("log.new", "access.new", "other")]
    rotation.take(json.dumps(["", file.path, "/no/file/of/ours"]).encode(), given, [])
    log.error("hello")
    file.write(b"line\n")
    assert (log.log.descriptor, file.descriptor) == numbers
    assert "hello" in (tmp_path / "log.new").read_text()
    assert (tmp_path / "access.new").read_text() == "line\n"
    for descriptor in given:
        with pytest.raises(OSError):
            os.fstat(descriptor)


def test_too_few_change_nothing_and_are_told_of(file: logfile.LogFile, tmp_path: Path) -> None:
    given = [fresh(tmp_path / "new")]
    rotation.take(json.dumps(["", file.path]).encode(), given, [])
    file.write(b"line\n")
    assert "send SIGUSR1 again" in (tmp_path / "log").read_text()
    assert (tmp_path / "access").read_text() == "line\n"
    with pytest.raises(OSError):
        os.fstat(given[0])
