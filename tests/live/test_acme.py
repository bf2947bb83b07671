"""Certificates by ACME through the real CLI, from pebble: first issue, renewal, refusal, a CA that is away."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from pebble import Pebble, pebble
from ports import free_port
from server import DEADLINE, REPOSITORY, Server, until

pytest.importorskip("acme", reason="the extra gkore[acme] is not installed: ACME is not tested")
Start = Callable[..., Server]

APP = """
import os
import kore

def who(req):
    req.response(200, b"%d" % os.getpid())
"""
ROUTE = "    route /who {\n        handler who\n    }\n"


def conf(ca: Pebble, port: int, *names: str, more: str = "") -> str:
    domains = "".join(f"domain {name} {{\n    acme yes\n{ROUTE}}}\n" for name in names)
    return f"{more}acme_provider {ca.url}\nacme_ca {ca.ca}\nbind 127.0.0.1 {port}\n{domains}"


def served(port: int, name: str) -> dict[str, Any]:
    """The certificate that a client is shown who asks for ``name``: who signed it, for whom, until when."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), DEADLINE) as plain,
        context.wrap_socket(plain, server_hostname=name) as sock,
    ):
        pem = ssl.DER_cert_to_PEM_cert(sock.getpeercert(True) or b"")
    words = ["openssl", "x509", "-noout", "-issuer", "-serial", "-enddate", "-ext", "subjectAltName"]
    told = subprocess.run(words, input=pem, capture_output=True, text=True, check=True).stdout
    return {"placeholder": "gkore placeholder" in told, "named": f"DNS:{name}" in told, "told": told}


def issued(up: Server, port: int, name: str) -> str:
    """Wait until a certificate of the CA is served for a name."""
    until(lambda: not served(port, name)["placeholder"], lambda: f"a certificate for {name}:\n{up.log()}")
    found = served(port, name)
    assert found["named"], found
    return str(found["told"])


def status(up: Server) -> dict[str, Any]:
    words = [sys.executable, "-m", "gkore", "status", "--json", "-c", "kore.conf"]
    ran = subprocess.run(
        words, cwd=up.directory, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout))


def certificate(up: Server, name: str) -> dict[str, Any]:
    return dict(next(one for one in status(up)["certificates"] if one["domain"] == name))


def metric(up: Server, name: str) -> float:
    """One of the domains' figures at /metrics."""
    port = re.search(r"on http://\S*:(\d+)", up.log())
    assert port
    with urlopen(f"http://127.0.0.1:{port[1]}/metrics", timeout=DEADLINE) as answer:
        found = re.search(rf"^gkore_certificate_{re.escape(name)} (\d+)$", answer.read().decode(), re.M)
    assert found, name
    return float(found[1])


def owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_mode & 0o777


def test_a_site_starts_at_once_and_gets_its_certificate_when_the_ca_is_there(server: Start, tmp_path: Path) -> None:
    port = free_port()
    with pebble(tmp_path / "ca", port, start=False) as ca:
        more = "metrics 127.0.0.1:0\nprivsep acme {\n    runas nobody\n}\n" if os.geteuid() == 0 else ""
        up = server(conf(ca, port, "one.test", "blocked.test", more=more or "metrics 127.0.0.1:0\n"), app=APP)
        found = served(port, "one.test")
        assert found["placeholder"]
        assert found["named"]
        up.says("one.test: no certificate: unreachable: .*refused.*can this machine reach it.*next try in")
        assert metric(up, 'expiry_seconds{domain="one.test"}') == 0
        ca.start()
        issued(up, port, "one.test")
        until(lambda: certificate(up, "one.test")["renewal"], "the next renewal")
        one = certificate(up, "one.test")
        assert one["until"] > one["renewal"] > time.time()
        assert one["failure"] == ""
        assert metric(up, 'expiry_seconds{domain="one.test"}') == one["until"]

        # the CA refuses the other one
        up.says("blocked.test: no certificate: rejectedIdentifier: .*next try in 60 s")
        until(lambda: certificate(up, "blocked.test")["failures"] == 1, "the refusal in the status")
        assert "rejectedIdentifier" in certificate(up, "blocked.test")["failure"]
        assert served(port, "blocked.test")["placeholder"]
        assert metric(up, 'failures{domain="blocked.test"}') == 1

        # the files
        files = up.directory / "acme"
        us, them = os.geteuid(), 65534 if more else os.geteuid()
        assert owner(files) == (us, 0o700)
        assert owner(files / "one.test" / "key.pem") == (us, 0o600)
        assert owner(files / "account" / "account-key.pem") == (them, 0o600)

        # a reload: no second account, no second order for what is there
        before, orders = served(port, "one.test"), ca.log().count("Added order")
        up.reload()
        up.says("(?s)one.test: asking.*blocked.test: asking.*blocked.test: asking")
        until(lambda: certificate(up, "blocked.test")["failures"] == 2, "the refusal after the reload")
        assert served(port, "one.test") == before
        assert ca.log().count("Added order") == orders
        assert len(ca.accounts()) == 1

        # a client that offers the protocol of challenges while there is none
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["acme-tls/1"])
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as plain, pytest.raises(OSError):
            context.wrap_socket(plain, server_hostname="one.test")


def test_a_certificate_is_renewed_under_load_without_a_failed_request(server: Start, tmp_path: Path) -> None:
    port = free_port()
    with pebble(tmp_path / "ca", port, lifetime=8) as ca:
        up = server(conf(ca, port, "one.test"), app=APP)
        first = issued(up, port, "one.test")
        done, failures = threading.Event(), list[str]()
        load = threading.Thread(target=keep_asking, args=(port, done, failures))
        load.start()
        try:
            until(lambda: served(port, "one.test")["told"] != first, lambda: f"a renewal:\n{up.log()}")
        finally:
            done.set()
            load.join(DEADLINE)
        assert failures == []
        assert not served(port, "one.test")["placeholder"]
        assert up.log().count("new certificate") >= 2


def keep_asking(port: int, done: threading.Event, failures: list[str]) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    while not done.is_set():
        client = http.client.HTTPSConnection("127.0.0.1", port, timeout=DEADLINE, context=context)
        try:
            while not done.is_set():
                client.request("GET", "/who", headers={"host": "one.test"})
                answer = client.getresponse()
                answer.read()
                if answer.status != 200:
                    failures.append(str(answer.status))
                if answer.will_close:
                    break
        except (OSError, http.client.HTTPException) as failure:
            failures.append(repr(failure))
        finally:
            client.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can confine a process")
def test_confined_beside_a_key_manager_and_killed(server: Start, tmp_path: Path) -> None:
    """In a chroot with nothing but names in it; the key is the key manager's; kill -9 is healed."""
    port, root = free_port(), tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "hosts").write_text("127.0.0.1 localhost\n")
    processes = "privsep worker {\n    runas nobody\n}\nprivsep keymgr {\n    runas daemon\n}\n"
    with pebble(tmp_path / "ca", port) as ca:
        up = server(conf(ca, port, "one.test", more=f"{processes}privsep acme {{\n    root {root}\n}}\n"), app=APP)
        issued(up, port, "one.test")
        (ours,) = found_processes(up)
        assert os.readlink(f"/proc/{ours}/root") == str(root)
        assert owner(root / "acme" / "account" / "account-key.pem") == (65534, 0o600)
        assert owner(root / "acme" / "one.test" / "key.pem") == (0, 0o600)
        os.kill(ours, signal.SIGKILL)
        up.says("the acme process ended with status -9.*next try in 1 s")
        until(lambda: found_processes(up) not in ([], [ours]), "another acme process")
        assert not served(port, "one.test")["placeholder"]


def found_processes(up: Server) -> list[int]:
    """The acme processes of a server."""
    return [pid for pid in up.processes() if "[acme]" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_a_rotated_log_reaches_the_process(server: Start) -> None:
    privileges = "privsep acme {\n    runas nobody\n}\n" if os.geteuid() == 0 else ""
    provider = f"acme_provider https://127.0.0.1:{free_port()}/\n"  # nobody is there
    domain = f"domain one.test {{\n    acme yes\n{ROUTE}}}\n"
    conf = f"logfile gkore.log\n{privileges}{provider}bind 127.0.0.1 {free_port()}\n{domain}"
    up = server(conf, app=APP, ready=False)
    log = up.directory / "gkore.log"
    until(lambda: log.exists() and "proc=[acme]" in log.read_text(), up.log)
    log.rename(log.with_suffix(".1"))
    up.signal(signal.SIGUSR1)
    until(lambda: log.exists() and "proc=[acme]" in log.read_text(), lambda: "the next try in the new log")
