"""Bodies in memory and on disk: spilling, names, a full disk, nothing left."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkore.errors import ProtocolError, StartError
from gkore.worker import body
from gkore.worker.body import Spool, Storage, Stored, digest, pieces, unnamed


@given(st.lists(st.binary(max_size=30), max_size=10), st.integers(0, 60), st.integers(0, 200), st.integers(0, 200))
def test_a_spool_gives_back_what_it_took(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], threshold: int, offset: int, length: int
) -> None:
    spool = Spool(Storage(threshold, str(tmp_path_factory.getbasetemp())))
    for part in parts:
        spool.write(part)
    whole = b"".join(parts)
    assert spool.size == len(whole)
    assert (spool.file is not None) == (0 < threshold < len(whole))
    assert spool.read(offset, length) == whole[offset : offset + length]
    assert b"".join(pieces(b"", spool)) == whole
    assert digest(b"", spool) == hashlib.sha256(whole).digest()
    spool.close()


def test_a_file_has_no_name_until_it_is_asked_for_one(tmp_path: Path) -> None:
    spool = Spool(Storage(10, str(tmp_path)), expected=11)
    spool.write(b"x" * 11)
    assert spool.file is not None
    assert os.listdir(tmp_path) == []
    path = Path(spool.file.path)
    assert path.read_bytes() == b"x" * 11
    assert spool.file.path == str(path)
    assert path.stat().st_mode & 0o777 == 0o600
    spool.close()
    spool.close()
    assert os.listdir(tmp_path) == []


def test_a_forgotten_file_is_removed(tmp_path: Path) -> None:
    file = unnamed(str(tmp_path))
    name = os.path.basename(file.path)
    assert os.listdir(tmp_path) == [name]
    del file
    gc.collect()
    assert os.listdir(tmp_path) == []


def test_file_systems_without_unnamed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not here")
        return opened(path, flags, mode)

    monkeypatch.setattr(body.os, "open", refuse)
    file = unnamed(str(tmp_path))
    file.write(b"abc")
    assert Path(file.path).read_bytes() == b"abc"
    file.close()
    assert os.listdir(tmp_path) == []


def test_a_full_disk(tmp_path: Path) -> None:
    full = Stored(os.open("/dev/full", os.O_RDWR), str(tmp_path))
    with pytest.raises(ProtocolError) as refused:
        full.write(b"x")
    assert refused.value.status == 500


def test_a_directory_that_can_not_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StartError, match="http_body_disk_path"):
        Storage(1, str(tmp_path / "file")).prepare()
    Storage(0, str(tmp_path / "file")).prepare()
    with pytest.raises(ProtocolError) as refused:
        Spool(Storage(1, str(tmp_path / "missing")), expected=2)
    assert refused.value.status == 500
