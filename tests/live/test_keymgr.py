"""``privsep keymgr``: the key is in no worker, and everything that needs it works all the same."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificates import Authority
from server import Server, opened, until
from test_tls import APP, ask, connected, context, domain

Start = Callable[..., Server]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run processes as other users")
USERS = "privsep worker {\n    runas nobody\n}\nprivsep keymgr {\n    runas daemon\n}\n"
SPY = (
    APP
    + """
def steal(req):
    try:
        open(req.body.decode()).read()
    except OSError as failure:
        req.response(403, failure.strerror.encode())
    else:
        req.response(200, b"")

def pry(req):
    open(f"/proc/{req.body.decode()}/mem", "rb")
    req.response(200, b"")
"""
)
SPYING = "    route /steal {\n        handler steal\n    }\n    route /pry {\n        handler pry\n    }\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "root")


@pytest.fixture
def open_path(tmp_path: Path) -> Iterator[None]:
    """Workers that run as nobody read the application below the tests' directory, which is root's."""
    closed = [path for path in (tmp_path, *tmp_path.parents) if not path.stat().st_mode & 0o001]
    modes = {path: path.stat().st_mode for path in closed}
    for path in closed:
        path.chmod(0o755)
    yield
    for path, mode in modes.items():
        path.chmod(mode)


def keymgr(up: Server) -> int:
    """The pid of the newest key manager that holds its keys."""
    found = re.findall(r"the key manager \(pid (\d+)\) holds", up.log())
    return int(found[-1]) if found else 0


def stop(pid: int) -> None:
    """Have a process stand still. SIGSTOP wakes one thread, which stops the others: until then they work on."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    until(lambda: all(") T " in (task / "stat").read_text() for task in tasks.iterdir()), "all threads to stop")


def secrets(key: Path) -> list[bytes]:
    """The private numbers of a key as OpenSSL has them in memory, either way round, and the lines of its file."""
    text = subprocess.run(
        ["openssl", "pkey", "-in", key, "-text", "-noout"], check=True, capture_output=True, text=True
    )
    found = []
    for name in ("priv", "prime1", "prime2", "privateExponent"):
        match = re.search(rf"^{name}:\n((?: {{4}}[0-9a-f:]+\n)+)", text.stdout, re.MULTILINE)
        if match:
            number = bytes.fromhex(re.sub(r"[\s:]", "", match[1])).lstrip(b"\0")
            found += [number, number[::-1]]
    assert found
    lines = [line for line in key.read_bytes().splitlines() if not line.startswith(b"-")]
    return [*found, max(lines, key=len)]


def holds(pid: int, needles: list[bytes]) -> bool:
    """Whether a process has one of them in its memory."""
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            bounds, rights = line.split()[:2]
            if not rights.startswith("rw") or "[vvar" in line:
                continue
            begin, end = (int(part, 16) for part in bounds.split("-"))
            memory.seek(begin)
            try:
                data = memory.read(end - begin)
            except OSError:
                continue
            if any(needle in data for needle in needles):
                return True
    return False


def version(authority: Authority, which: ssl.TLSVersion) -> ssl.SSLContext:
    made = context(authority)
    made.minimum_version = made.maximum_version = which
    return made


def pkcs1(authority: Authority) -> ssl.SSLContext:
    """A client that takes nothing but the older signatures of RSA."""
    made = version(authority, ssl.TLSVersion.TLSv1_2)
    made.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    return made


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519"])
def test_the_key_is_out_of_reach_of_workers(server: Start, authority: Authority, open_path: None, kind: str) -> None:
    pair = authority.issue("one.test", f"apart-{kind}", kind)
    pair[1].chmod(0o600)
    up = server(USERS + domain("*", pair, SPYING), app=SPY, workers=1, tracebacks=True)
    until(lambda: keymgr(up), up.log)
    for which in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with connected(up, version(authority, which)) as sock:
            seen = json.loads(ask(sock)[1])
            assert ask(sock, "/steal", body=str(pair[1]).encode()) == (403, b"Permission denied")
            assert ask(sock, "/pry", body=str(keymgr(up)).encode())[0] == 500
    needles = secrets(pair[1])
    assert holds(keymgr(up), needles)
    assert not holds(seen["pid"], needles)
    assert not holds(up.pid, needles)
    assert Path(f"/proc/{keymgr(up)}/status").read_text().count("NoNewPrivs:\t1") == 1


def test_a_key_manager_of_the_same_user_is_out_of_reach_too(
    server: Start, authority: Authority, open_path: None
) -> None:
    pair = authority.issue("one.test")
    conf = "runas nobody\nprivsep keymgr {\n}\n"
    up = server(conf + domain("*", pair, SPYING), app=SPY, workers=1, tracebacks=True)
    until(lambda: keymgr(up), up.log)
    with connected(up, context(authority)) as sock:
        assert ask(sock, "/pry", body=str(keymgr(up)).encode())[0] == 500
    assert "PermissionError" in up.log()


def test_rsa_signatures_of_tls_1_2(server: Start, authority: Authority) -> None:
    pair = authority.issue("one.test", "apart-rsa", "rsa")
    up = server("privsep keymgr {\n}\n" + domain("*", pair), app=APP, workers=1)
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{up.port}", "-CAfile", authority.cert]
    for algorithm in ("RSA+SHA256", "RSA+SHA512", "RSA-PSS+SHA384"):
        words = [*map(str, command), "-tls1_2", "-sigalgs", algorithm]
        said = subprocess.run(words, input=b"", capture_output=True, check=False).stdout.decode()
        assert "Verify return code: 0 (ok)" in said
        assert re.search(r"Peer signature type: " + algorithm.partition("+")[0], said), said


BROKEN_IN = """
import os
import socket
import subprocess
import mmap
from gkore import log
from gkore.keys import keymgr

ACTIONS = {
    "file": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "socket": lambda: socket.socket(),
    "process": lambda: os.fork(),
    "code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "mode": lambda: os.chmod("/tmp", 0o777),
    "program": lambda: os.execv("/bin/true", ["true"]),
}
find, tried = keymgr.Ring.find, set()

def broken(ring, name):
    for word, action in ACTIONS.items():
        try:
            if word not in tried:
                tried.add(word)
                log.notice(f"trying {word}")
                log.notice(f"{word}: {action()}")
        except OSError as failure:
            log.notice(f"{word}: {failure.strerror}")
    return find(ring, name)

keymgr.Ring.find = broken
"""


def test_somebody_who_has_broken_into_it_can_do_nothing_but_sign(server: Start, authority: Authority) -> None:
    conf = "privsep keymgr {\n}\n" + domain("*", authority.issue("one.test"))
    up = server(conf, app=APP + BROKEN_IN, workers=1)
    until(lambda: keymgr(up), up.log)
    assert "Seccomp:\t2" in Path(f"/proc/{keymgr(up)}/status").read_text()
    with pytest.raises(OSError), connected(up, context(authority)):  # every successor breaks in turn
        pass
    said = dict(re.findall(r"\[keymgr\] log=\[(\w+): (.*)\]", up.log()))
    assert said == dict.fromkeys(("file", "socket", "process", "code", "mode"), "Operation not permitted")
    assert re.search(r"the key manager .* was killed by SIGSYS .a system call that the sandbox forbids", up.log())


def test_a_rotated_log_reaches_the_key_manager(server: Start, authority: Authority) -> None:
    conf = "logfile gkore.log\nprivsep keymgr {\n    runas daemon\n}\n" + domain("*", authority.issue("one.test"))
    up = server(conf, app=APP, workers=1, ready=False)
    log = up.directory / "gkore.log"
    until(lambda: log.exists() and "holds 1 key" in log.read_text(), up.log)
    pid = int(re.findall(r"the key manager \(pid (\d+)\) holds", log.read_text())[-1])
    assert str(log) in opened(pid)
    log.rename(log.with_suffix(".1"))
    up.signal(signal.SIGUSR1)
    until(lambda: str(log) in opened(pid) and str(log.with_suffix(".1")) not in opened(pid), "the new log")


def test_killed_key_managers_are_replaced_and_nobody_notices(server: Start, authority: Authority) -> None:
    up = server("privsep keymgr {\n}\n" + domain("*", authority.issue("one.test")), app=APP, workers=2)
    until(lambda: keymgr(up), up.log)
    seen = set()
    for _ in range(3):
        os.kill(victim := keymgr(up), signal.SIGKILL)
        seen.add(victim)
        for _ in range(4):
            with connected(up, context(authority)) as sock:
                assert ask(sock)[0] == 200
        until(lambda: keymgr(up) not in seen, up.log)


def test_a_key_manager_that_does_not_answer_fails_handshakes_and_nothing_else(
    server: Start, authority: Authority
) -> None:
    up = server("privsep keymgr {\n}\n" + domain("*", authority.issue("one.test")), app=APP, workers=1)
    until(lambda: keymgr(up), up.log)
    with connected(up, context(authority)) as before:
        stop(keymgr(up))
        try:
            for _ in range(2):
                with pytest.raises((ssl.SSLError, OSError)), connected(up, context(authority)):
                    pass
            assert ask(before)[0] == 200
            assert up.log().count("has not answered for 2 s") == 1
        finally:
            os.kill(keymgr(up), signal.SIGCONT)
    up.says(r"holds 1 key")

    def served() -> bool:
        try:
            with connected(up, context(authority)) as sock:
                return ask(sock)[0] == 200
        except OSError:
            return False

    until(served, up.log)


def test_a_reload_brings_new_keys_and_old_connections_go_on(server: Start, authority: Authority) -> None:
    one, two = authority.issue("one.test", "kept"), authority.issue("one.test", "kept-next")
    up = server("privsep keymgr {\n}\n" + domain("*", one), app=APP, workers=2)
    until(lambda: keymgr(up), up.log)
    old = keymgr(up)
    with connected(up, context(authority)) as sock:
        serial = sock.getpeercert()["serialNumber"]
        for source, target in zip(two, one, strict=True):
            target.write_bytes(source.read_bytes())
        up.reload()
        assert ask(sock)[0] == 200
    with connected(up, context(authority)) as sock:
        assert sock.getpeercert()["serialNumber"] != serial
    until(lambda: not Path(f"/proc/{old}").exists(), up.log)


@pytest.mark.parametrize("apart", [False, True], ids=["in workers", "apart"])
def test_usr1_brings_new_certificates_into_the_same_workers(server: Start, authority: Authority, apart: bool) -> None:
    name = f"renewed-{apart}"
    one, two = authority.issue("one.test", name), authority.issue("one.test", f"{name}-next")
    up = server(("privsep keymgr {\n}\n" if apart else "") + domain("*", one), app=APP, workers=2)
    pids = set()
    with connected(up, context(authority)) as old:
        serial = old.getpeercert()["serialNumber"]
        pids.add(json.loads(ask(old)[1])["pid"])
        up.signal(signal.SIGUSR1)  # nothing has changed
        one[0].write_bytes(two[0].read_bytes())
        up.signal(signal.SIGUSR1)  # half of it: certificate and key don't fit
        up.says(r"keeps its old certificate: .*certkey .*mismatch.*; mend that, and send SIGUSR1 again")
        with connected(up, context(authority)) as sock:
            assert sock.getpeercert()["serialNumber"] == serial
        one[1].write_bytes(two[1].read_bytes())
        up.signal(signal.SIGUSR1)
        up.says(r"certificates read again: \*")

        def renewed() -> bool:
            with connected(up, context(authority)) as sock:
                pids.add(json.loads(ask(sock)[1])["pid"])
                return bool(sock.getpeercert()["serialNumber"] != serial)

        until(renewed, up.log)
        assert ask(old)[0] == 200
    assert up.log().count("log=[ready: ") == 1  # no worker was renewed for it
    for victim in list(pids):  # those that are forked later have it too
        os.kill(victim, signal.SIGKILL)
    until(lambda: up.log().count("is ready") >= 2 + len(pids), up.log)
    for _ in range(6):
        with connected(up, context(authority)) as sock:
            assert sock.getpeercert()["serialNumber"] != serial


@pytest.mark.parametrize("apart", [False, True], ids=["in workers", "apart"])
def test_another_kind_of_key_takes_new_workers(server: Start, authority: Authority, apart: bool) -> None:
    name = f"changed-{apart}"
    one, two = authority.issue("one.test", name), authority.issue("one.test", f"{name}-next", "rsa")
    up = server(("privsep keymgr {\n}\n" if apart else "") + domain("*", one), app=APP, workers=1)
    with connected(up, context(authority)) as old:
        serial = old.getpeercert()["serialNumber"]
        for source, target in zip(two, one, strict=True):
            target.write_bytes(source.read_bytes())
        up.signal(signal.SIGUSR1)
        up.says(r"can't be changed in place \(another kind of key\)")
        up.ready(2)
        assert ask(old)[0] == 200
    with connected(up, context(authority)) as sock:
        assert sock.getpeercert()["serialNumber"] != serial
        assert ask(sock)[0] == 200


HIDDEN = "import _ctypes\nimport _ssl\n_ssl.__file__ = _ctypes.__file__\n"
"""Afterwards this Python seems to hide its OpenSSL: no function of it is where it is looked for."""


def test_a_key_that_can_t_be_kept_apart_is_a_mistake_of_the_conf(server: Start, authority: Authority) -> None:
    conf = "privsep keymgr {\n}\n" + domain("*", authority.issue("one.test"))
    up = server(conf, app=HIDDEN + APP, ready=False, status=3)
    assert up.ends() == 3
    assert "this Python hides its OpenSSL" in up.log()
    assert "take a Python that shares the system's OpenSSL" in up.log()


def test_without_openssl_s_functions_new_certificates_take_new_workers(server: Start, authority: Authority) -> None:
    one, two = authority.issue("one.test", "hidden"), authority.issue("one.test", "hidden-next")
    up = server(domain("*", one), app=HIDDEN + APP, workers=1)
    with connected(up, context(authority)) as old:
        serial = old.getpeercert()["serialNumber"]
        for source, target in zip(two, one, strict=True):
            target.write_bytes(source.read_bytes())
        up.signal(signal.SIGUSR1)
        up.says(r"can't be changed in place \(this Python hides its OpenSSL")
        up.ready(2)
        assert ask(old)[0] == 200
    with connected(up, context(authority)) as sock:
        assert sock.getpeercert()["serialNumber"] != serial
