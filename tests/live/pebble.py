"""Debian's pebble, Let's Encrypt's CA for tests: an ACME provider on loopback for which every name is 127.0.0.1."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from certificates import Authority
from ports import free_port
from server import until


class Pebble:
    """One CA; it can be stopped and started again, and then has forgotten everything."""

    def __init__(self, directory: Path, site: int, lifetime: int = 0) -> None:
        """It looks for challenges at port ``site``; ``lifetime`` of its certificates in seconds, 0: five years."""
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.port = free_port()
        self.url = f"https://localhost:{self.port}/dir"
        authority = Authority(directory, "minica")
        self.ca = authority.cert
        cert, key = authority.issue("localhost")
        settings: dict[str, object] = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": "",
            "certificate": str(cert),
            "privateKey": str(key),
            "httpPort": free_port(),
            "tlsPort": site,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            "domainBlocklist": ["blocked.test"],
        }
        if lifetime:
            settings["certificateValidityPeriod"] = lifetime
        (directory / "pebble.json").write_text(json.dumps({"pebble": settings}))
        self._names = free_port()
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        names = f"127.0.0.1:{self._names}"
        nothing = [word for name in ("http01", "https01", "tlsalpn01") for word in (f"-{name}", "")]
        self._run(
            "names",
            "pebble-challtestsrv",
            *nothing,
            "-dns01",
            names,
            "-management",
            f"127.0.0.1:{free_port()}",
            "-defaultIPv6",
            "",
        )
        self._run("log", "pebble", "-strict", "-config", "pebble.json", "-dnsserver", names)
        until(self._answers, self.log)

    def _run(self, log: str, *words: str) -> None:
        environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_VA_ALWAYS_VALID": "0", "PEBBLE_AUTHZREUSE": "0"}
        environment["PEBBLE_WFE_NONCEREJECT"] = "0"
        with open(self.directory / log, "ab") as out:
            self._running.append(subprocess.Popen(words, cwd=self.directory, env=environment, stdout=out, stderr=out))

    def _answers(self) -> bool:
        assert all(process.poll() is None for process in self._running), self.log()
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def accounts(self) -> set[str]:
        """The numbers of all accounts that have asked for something."""
        return set(re.findall(r"There are now (\d+) accounts", self.log()))

    def stop(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()
        self._running.clear()


@contextmanager
def pebble(directory: Path, site: int, lifetime: int = 0, start: bool = True) -> Iterator[Pebble]:
    if not (shutil.which("pebble") and shutil.which("pebble-challtestsrv")):
        pytest.skip("pebble is not installed (Debian: pebble): ACME is not tested")
    with ExitStack() as stack:
        made = Pebble(directory, site, lifetime)
        stack.callback(made.stop)
        if start:
            made.start()
        yield made
