"""A daemon without a logfile: everything is said to syslog, by every process, a crash's trace too."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from server import DEADLINE, Server, until

Start = Callable[..., Server]
DEVICE = "/dev/log"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or os.path.exists(DEVICE), reason=f"needs root and a machine whose {DEVICE} is free"
)
APP = """
import os
import kore

def crash(req):
    kore.log(kore.LOG_NOTICE, "before the end\\nin two lines")
    os.abort()
"""
CONF = "pidfile gkore.pid\ncontrol gkore.control\ndomain * {\n    route /crash crash\n}\n"


@pytest.fixture
def syslog() -> Iterator[socket.socket]:
    """What syslogd would hear."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(DEVICE)
        sock.settimeout(DEADLINE)
        try:
            yield sock
        finally:
            os.unlink(DEVICE)


def heard(syslog: socket.socket, pattern: str) -> None:
    """Wait for such a message."""
    while not re.search(pattern, syslog.recv(65536).decode()):
        pass


def test_everything_is_said_to_syslog(server: Start, syslog: socket.socket) -> None:
    up = server(CONF, app=APP, workers=1, arguments=["-d"], ready=False, bind="127.0.0.1:0")
    heard(syslog, r"^<29>.* gkore\[\d+\]: \[parent\]: ready: 1 worker, pid")
    daemon = int(Path(up.directory, "gkore.pid").read_text())
    try:
        with socket.create_connection(("127.0.0.1", up.port), DEADLINE) as client:
            client.sendall(b"GET /crash HTTP/1.1\r\nhost: x\r\n\r\n")
            heard(syslog, r"^<29>.* gkore\[\d+\]: \[wrk 1\]: before the end$")
            heard(syslog, r"^<29>.* gkore\[\d+\]: \[wrk 1\]: in two lines$")
            heard(syslog, r"^<27>.* gkore\[\d+\]: \[parent\]: Fatal Python error: Aborted")
            heard(syslog, r'^<27>.* gkore\[\d+\]: \[parent\]: *File ".*app.py", line \d+ in crash')
            heard(syslog, r"^<27>.* gkore\[\d+\]: \[parent\]: worker 1 \(pid \d+\) was killed by SIGABRT")
        os.kill(daemon, signal.SIGHUP)
        heard(syslog, r"^<29>.* gkore\[\d+\]: \[parent\]: ready: 1 worker")
    finally:
        os.kill(daemon, signal.SIGTERM)
        until(lambda: not Path(up.directory, "gkore.pid").exists(), "the daemon's end")
    heard(syslog, r"^<29>.* gkore\[\d+\]: \[parent\]: stopped")
