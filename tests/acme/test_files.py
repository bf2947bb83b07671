"""What is kept on disk: replaced whole, taken only when it fits."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from certificates import Authority

from gkore.acme.memory import Memory, Record
from gkore.conf.application import Application
from gkore.conf.site import Domain
from gkore.durable import replace_file
from gkore.errors import StartError
from gkore.master.archive import Archive, make_files
from gkore.master.certificates import ends_at, is_placeholder

pytest.importorskip("cryptography", reason="the extra gkore[acme] is not installed")


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    application = Application()
    application.settings.put("acme_directory", str(tmp_path / "acme"), "test")
    return Archive(application)


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(str(path), b"first")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(TypeError):
        replace_file(str(path), "no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["file"]


def test_a_domain_gets_a_placeholder_with_its_own_key(archive: Archive) -> None:
    domain = Domain("One.Test", acme=True)
    os.close(archive.open([domain], None))
    assert is_placeholder(domain.certfile)
    assert archive.chain(domain) == ""
    assert "CERTIFICATE REQUEST" in archive.request(domain)
    assert isinstance(domain.context, ssl.SSLContext)
    key = Path(domain.certkey).read_bytes()
    os.close(archive.open([domain], None))
    assert Path(domain.certkey).read_bytes() == key


def test_a_domain_called_account_does_not_meet_the_account_s_files(archive: Archive) -> None:
    domain = Domain("Account", acme=True)
    folder = archive.open([domain], None)
    assert os.listdir(folder) == []
    os.close(folder)
    assert sorted(os.listdir(archive.path)) == ["account", "account@"]
    assert is_placeholder(domain.certfile)


def test_a_lost_chain_is_made_again_with_the_same_key(archive: Archive) -> None:
    domain = Domain("one.test", acme=True)
    os.close(archive.open([domain], None))
    key = Path(domain.certkey).read_bytes()
    os.unlink(domain.certfile)
    os.close(archive.open([domain], None))
    assert Path(domain.certkey).read_bytes() == key
    assert is_placeholder(domain.certfile)


def test_only_a_chain_for_the_key_is_taken(archive: Archive, tmp_path: Path) -> None:
    domain = Domain("one.test", acme=True)
    os.close(archive.open([domain], None))
    before = Path(domain.certfile).read_bytes()
    cert, _ = Authority(tmp_path / "ca", "ca").issue("one.test")
    for chain, why in ((cert.read_text(), "key values mismatch"), ("nonsense", "no start line|pem lib|PEM")):
        with pytest.raises(ValueError, match=why):
            archive.accept(domain, chain, 0)
    ours = make_files("one.test", Path(domain.certkey).read_bytes())[2].decode()
    with pytest.raises(ValueError, match="expired"):
        archive.accept(domain, ours, 10.0**11)
    assert Path(domain.certfile).read_bytes() == before
    archive.accept(domain, ours, 0)
    assert Path(domain.certfile).read_text() == ours
    assert ends_at(domain.certfile) > 0
    assert sorted(os.listdir(Path(domain.certfile).parent)) == ["chain.pem", "key.pem", "request.pem"]


def test_a_directory_that_others_may_read_is_refused(archive: Archive) -> None:
    os.makedirs(archive.path, 0o755)
    os.chmod(archive.path, 0o755)
    with pytest.raises(StartError, match="chmod 700"):
        archive.open([], None)
    with pytest.raises(StartError, match="chmod 700"):
        archive.examine([])


def test_an_examination_makes_nothing(archive: Archive) -> None:
    archive.examine([Domain("one.test", acme=True)])
    assert not os.path.exists(archive.path)


def test_what_is_known_of_a_domain_survives_and_nonsense_is_nothing(tmp_path: Path) -> None:
    pytest.importorskip("josepy", reason="the extra gkore[acme] is not installed")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        memory = Memory(folder)
        memory.keep("one.test", Record(3, "caa", "why", 12.5, [float(n) for n in range(20)], "chain"))
        assert memory.recall("one.test") == Record(3, "caa", "why", 12.5, [float(n) for n in range(12, 20)], "chain")
        (tmp_path / "one.test.json").write_text("[1]")
        assert memory.recall("one.test") == Record()
        assert memory.account_key() == memory.account_key()
    finally:
        os.close(folder)
