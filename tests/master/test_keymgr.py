"""The key manager from the master's side: old workers' channels, keys that can't be read at first."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificates import Authority
from gevent.monkey import get_original
from server import until

from gkore.conf.site import Domain, Site
from gkore.keys.keymgr import Ring
from gkore.keys.openssl import PrivateKey
from gkore.keys.signing import Request, Scheme
from gkore.master.keymgr import Keymgr
from gkore.master.privileges import Privileges
from gkore.worker.signer import Signer

Make = Callable[[], Keymgr]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return Authority(tmp_path / "ca", "root").issue("one.test")


@pytest.fixture
def keymgr(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Keymgr]:
    for module, name in (("time", "sleep"), ("_thread", "start_new_thread")):  # as when it is imported in time
        monkeypatch.setattr(f"gkore.keys.keymgr.{name}", get_original(module, name))
    site = Site()
    site.domains.append(Domain("one.test", certfile=str(pair[0]), certkey=str(pair[1])))
    made = Keymgr(site, Privileges(64))
    yield made
    made.close()


def channel() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def request(key: Path) -> Request:
    return Request(0, PrivateKey(key.read_bytes()).name, Scheme.ECDSA, "", bytes(32))


def test_old_workers_whose_key_manager_is_dead_already_have_the_new_one(
    keymgr: Keymgr, pair: tuple[Path, Path]
) -> None:
    dead = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, dead, os.WEXITED | os.WNOWAIT)  # as at an exec: ended, and nobody has looked
    ours, theirs = channel()
    keymgr.inherit({"pids": [dead], "channels": [{"descriptor": ours.detach()}]})
    with theirs:
        keymgr.tick(tuple)
        assert Signer(theirs).sign(request(pair[1]))


def test_keys_that_can_t_be_read_are_read_later(keymgr: Keymgr, pair: tuple[Path, Path]) -> None:
    away = pair[1].rename(pair[1].with_suffix(".away"))
    keymgr.tick(tuple)
    wanted = request(away)
    assert keymgr.pid
    assert keymgr.due() < time.monotonic() + 10
    away.rename(pair[1])

    def taught() -> bool:
        keymgr.tick(tuple)
        return keymgr.keys == 1

    until(taught, lambda: "the key is taken")
    assert keymgr.due() == float("inf")
    ours, theirs = channel()
    with theirs:
        keymgr.keep(1, ours)
        assert Signer(theirs).sign(wanted)


def test_a_request_waits_for_the_first_keys(pair: tuple[Path, Path]) -> None:
    pem = pair[1].read_bytes()
    ring = Ring()
    late = threading.Timer(0.5, ring.add, [pem])
    late.start()
    assert ring.find(PrivateKey(pem).name)
    late.join()
    for _ in range(3):
        ring.turn()  # it knows all by now, and that is no key of its any more
    assert ring.find(PrivateKey(pem).name) is None
