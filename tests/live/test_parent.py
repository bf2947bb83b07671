"""Hooks in the parent may run programs and wait for them: at the start, at a reload and at the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from server import server

APP = """
import os
import subprocess
import kore

kore.server(ip="127.0.0.1", port="0", tls=False)
kore.domain("*")

def status(seconds, number):
    return subprocess.run(["sh", "-c", f"sleep {{seconds}}; exit {{number}}"], timeout=20).returncode

class App:
    def configure(self, args):
        self.started = None
        if {early}:
            kore.log(kore.LOG_INFO, f"early {{status(0, 3)}}")
            self.started = subprocess.Popen(["sh", "-c", "exit 5"])

    def cleanup(self):
        if self.started is not None:
            kore.log(kore.LOG_INFO, f"meanwhile {{self.started.wait(20)}}")
        kore.log(kore.LOG_INFO, f"late {{status(0.05, 4)}}")

koreapp = App()
"""


@pytest.mark.parametrize("early", [False, True])
def test_the_parents_hooks_wait_for_programs(early: bool, tmp_path: Path) -> None:
    with server(tmp_path, script=APP.format(early=early), workers=1) as up:
        up.reload()
        assert up.stop() == 0
        said = up.log()
    assert said.count("early 3") == (2 if early else 0), "at the start and in the new program"
    assert said.count("meanwhile 5") == int(early)
    assert said.count("late 4") == 1
