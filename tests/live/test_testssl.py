"""testssl.sh at a site with TLS and nothing said about it: nothing above "low"."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import Authority
from server import Server
from test_tls import APP, domain

SECTIONS = (["-p", "-s", "-f", "-S"], ["-U"])
"""Protocols, ciphers, forward secrecy and what the server says by default; vulnerabilities. Each mostly waits, so that
all of them run at once."""
FOUND_GOOD = """
SSLv2 SSLv3 TLS1_2 TLS1_3 cipherlist_NULL cipherlist_aNULL cipherlist_EXPORT cipherlist_LOW cipherlist_STRONG PFS
PFS_ECDHE_curves cert_trust cert_chain_of_trust heartbleed CCS ticketbleed ROBOT secure_renego secure_client_renego
CRIME_TLS POODLE_SSL SWEET32 FREAK LOGJAM BEAST LUCKY13 RC4
"""
BAD = ("MEDIUM", "HIGH", "CRITICAL", "FATAL")
OF_THE_CERTIFICATE = {"cert_revocation"}
"""Our authority has no list of the revoked at any address."""
PATIENCE = 150


@pytest.mark.skipif(not shutil.which("testssl"), reason="testssl is not installed (Debian: apt-get install testssl.sh)")
def test_testssl_finds_nothing(server: Callable[..., Server], tmp_path: Path) -> None:
    running = []
    for kind in ("ec", "rsa"):
        authority = Authority(tmp_path / kind, "root")
        up = server(domain("*", authority.issue("one.test", "", kind)), app=APP)
        for sections in SECTIONS:
            report = tmp_path / f"{kind}{sections[0]}.json"
            running.append((kind, report, scan(authority, up.port, report, sections)))
    found: dict[str, dict[str, tuple[str, str]]] = {"ec": {}, "rsa": {}}
    try:
        for kind, report, process in running:
            process.wait(PATIENCE)
            for one in json.loads(report.read_text()):
                found[kind][one["id"]] = (one["severity"], one["finding"])
    finally:
        for _, _, process in running:
            process.kill()
            process.wait()
    for one in found.values():
        bad = {name: said for name, said in one.items() if said[0] in BAD and name not in OF_THE_CERTIFICATE}
        assert not bad
        assert {name: one.get(name) for name in FOUND_GOOD.split() if one.get(name, ("none",))[0] != "OK"} == {}


def scan(authority: Authority, port: int, report: Path, sections: list[str]) -> subprocess.Popen[bytes]:
    words = ["--ip=127.0.0.1", "--nodns=none", "--quiet", "--color=0", "--warnings=off", f"--add-ca={authority.cert}"]
    env = {**os.environ, "TERM": "dumb", "DAYS2WARN1": "1", "DAYS2WARN2": "1"}  # our certificates last for 30 days
    with report.with_suffix(".out").open("wb") as out:
        command = ["testssl", *words, f"--jsonfile={report}", *sections, f"one.test:{port}"]
        return subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
