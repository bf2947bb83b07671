"""What scanners find at a site with TLS and nothing said about it: nothing to mend."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from certificates import Authority
from server import Server
from test_tls import APP, domain


@pytest.mark.skipif(not shutil.which("sslscan"), reason="sslscan is not installed (Debian: apt-get install sslscan)")
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_sslscan_finds_nothing(server: Callable[..., Server], tmp_path: Path, kind: str) -> None:
    pair = Authority(tmp_path / "ca", "root").issue("one.test", "", kind)
    up = server(domain("*", pair), app=APP)
    report = tmp_path / "report.xml"
    command = ["sslscan", f"--xml={report}", "--no-check-certificate", "--sni-name=one.test", f"127.0.0.1:{up.port}"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    found = ElementTree.parse(report).getroot()
    enabled = {one.get("version") for one in found.iter("protocol") if one.get("enabled") == "1"}
    assert enabled == {"1.2", "1.3"}
    assert {one.get("vulnerable") for one in found.iter("heartbleed")} == {"0"}
    assert {one.get("supported") for one in found.iter("renegotiation")} == {"0"}
    assert {one.get("supported") for one in found.iter("compression")} <= {"0", None}
    ciphers = [one.get("cipher", "") for one in found.iter("cipher")]
    assert len(ciphers) >= 6
    for cipher in ciphers:
        assert cipher.startswith(("TLS_", "ECDHE-"))
        assert cipher.endswith(("GCM-SHA256", "GCM_SHA256", "GCM-SHA384", "GCM_SHA384", "POLY1305", "POLY1305_SHA256"))
    assert {one.get("strength") for one in found.iter("cipher")} <= {"acceptable", "strong"}
