"""A page of the documentation, run: its files are written, its commands typed, their output compared.

A block whose first line is ``# NAME`` is a file. ``console`` blocks are sessions: ``$ command`` and what it must print;
``...`` stands for anything. A gkore that serves runs on until the page's next one, or its end, and so does a proxy in
front of it. Times, process ids and the ports 8888 and 8080 are read as what they are in this run.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from ports import free_port

ROOT = Path(__file__).parents[1]
DEADLINE = 60.0
SHORT = ("--check", "-t", "-h", "--help", "-v", "--version", "--print-config", "create", "routes", "openapi", "man")
SHORT += ("reload", "stop", "status", "dump", "bench")
"""Words that make gkore answer and end."""
PROXIES = ("nginx", "haproxy")
"""Programs that run beside gkore, on the port 8080, where a page starts them; without them the page is skipped."""
TOOLS = ("py-spy", "perf", "wrk", "openssl")
"""Programs that a machine may lack: what a page does with them is left out there."""
INSTALL = re.compile(r"(?:\w+=\S+ )?(pip|git|docker|podman|systemctl|journalctl|sudo|apt|cd) ")
"""Commands that are for the reader's machine, not for a test's."""
QUOTED = {"c", "nginx", "ini", "haproxy", "dockerfile", "yaml", "html", "text", "javascript", "toml"}
"""Languages of files for other programs: shown, not run here."""
CHANGING = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC"), "TIME"),
    (re.compile(r"worker \d+ \(pid"), "worker N (pid"),
    (re.compile(r"\bpid \d+"), "pid N"),
    (re.compile(r"\b(in|after|waited) \d+ ms"), r"\1 N ms"),
    (re.compile(r"127\.0\.0\.1:\d{5}\b"), "CLIENT"),
)


@dataclass(frozen=True)
class Block:
    """A fenced block, and where it is."""

    where: str
    language: str
    text: str

    @property
    def file(self) -> str:
        """The name of the file that it is, or ""."""
        found = re.match(r"(?:#|//|<!--) (\S+\.\w+|\S*file)(?: -->)?\n", self.text)
        return found[1] if found and self.language != "console" else ""


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    for found in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, found.start()) + 1
        body = re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE)
        yield Block(f"{page.relative_to(ROOT)}:{line}", found[2], body)


def plain(text: str) -> list[str]:
    """Lines, without what differs from run to run."""
    for pattern, name in CHANGING:
        text = pattern.sub(name, text)
    return [line.rstrip() for line in text.splitlines()]


def matches(expected: list[str], actual: list[str]) -> bool:
    """Whether the lines are those; ``...`` alone on a line is any number of lines, within a line any text."""
    pattern = ""
    for line in expected:
        anything = r"(?:.*\n)*?" if line.strip() == "..." else ".*".join(map(re.escape, line.split("..."))) + r"\n"
        pattern += anything
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in actual)) is not None


class Session:
    """One page being run in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = str(free_port())
        self.front = str(free_port())
        self.server: subprocess.Popen[bytes] | None = None
        self.proxy: subprocess.Popen[bytes] | None = None
        self.log = directory / ".log"
        tools = directory / ".bin"
        tools.mkdir()
        pytest_words = f"-m pytest -p no:cacheprovider {' '.join(plugin())}"
        for name, words in {"gkore": "-m gkore", "python": "", "pytest": pytest_words}.items():
            (tools / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
            (tools / name).chmod(0o755)
        (tools / ".curlrc").write_text("no-progress-meter\n")  # as on a terminal
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{tools}:{os.environ['PATH']}:/usr/sbin",
            "CURL_HOME": str(tools),
            "NO_COLOR": "1",
            "COLUMNS": "120",
        }

    def run(self, block: Block) -> None:
        """Do what a block is for. AssertionError when it doesn't come out as the page says."""
        text = block.text.replace("8888", self.port).replace("8080", self.front)
        if block.file:
            path = self.directory / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if path.suffix == ".py":
                compile(text, block.where, "exec")
        elif block.language == "console":
            self.type(block.where, text)
        else:
            assert block.language in QUOTED, (
                f"{block.where}: {block.language or 'this'} is neither a file nor a session"
            )

    def type(self, where: str, text: str) -> None:
        for command, output in re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
            tool = command.split()[0]
            if INSTALL.match(command) or (tool in TOOLS and not shutil.which(tool)):
                continue
            if tool in PROXIES:
                self.pass_on(where, command)
                continue
            expected = plain(output)
            if command.startswith("gkore") and not set(shlex.split(command)) & set(SHORT):
                self.serve(where, command, expected)
                continue
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=DEADLINE,
                check=False,
            )
            actual = plain(done.stdout)
            assert matches(expected, actual), f"{where}: $ {command}\n" + "\n".join(actual)

    def serve(self, where: str, command: str, expected: list[str]) -> None:
        """Start a server and wait for the lines that it must say."""
        self.stop()
        with self.log.open("wb") as log:
            self.server = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wanted = {line for line in expected if line != "..."}
        end = time.monotonic() + DEADLINE
        while not wanted <= set(plain(self.log.read_text())) or "ready: " not in self.log.read_text():
            missing = wanted - set(plain(self.log.read_text()))
            late = time.monotonic() > end or self.server.poll() is not None
            assert not late, f"{where}: $ {command}\nlacks {missing}\n{self.log.read_text()}"
            time.sleep(0.02)

    def pass_on(self, where: str, command: str) -> None:
        """Start a proxy and wait until it accepts connections."""
        if not shutil.which(command.split()[0], path=self.environment["PATH"]):
            pytest.skip(f"{where}: {command.split()[0]} is not installed: the page that needs it is NOT tested")
        self.end_proxy()
        self.proxy = subprocess.Popen(["/bin/sh", "-c", f"exec {command}"], cwd=self.directory, env=self.environment)
        end = time.monotonic() + DEADLINE
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(self.front)), 1).close()
                return
            except OSError:
                late = time.monotonic() > end or self.proxy.poll() is not None
                assert not late, f"{where}: $ {command}\nends, or does not listen"
                time.sleep(0.02)

    def end_proxy(self) -> None:
        if self.proxy is not None:
            self.proxy.send_signal(signal.SIGTERM)
            try:
                self.proxy.wait(DEADLINE)
            finally:
                self.proxy.kill()
            self.proxy = None

    def close(self) -> None:
        """Leave nothing running, however the page came out."""
        if self.server is not None:
            self.server.send_signal(signal.SIGTERM)  # its database must be told to end, too
            try:
                self.server.wait(DEADLINE)
            finally:
                self.server.kill()
        self.end_proxy()

    def stop(self, traceback: bool = False) -> None:
        """End the running server, if any; it must end well."""
        if self.server is None:
            return
        self.server.send_signal(signal.SIGTERM)
        try:
            status = self.server.wait(DEADLINE)
        finally:
            self.server.kill()
        self.server = None
        assert status == 0, self.log.read_text()
        assert traceback or "Traceback" not in self.log.read_text(), self.log.read_text()


def plugin() -> list[str]:
    """What makes pytest load gkore's plugin, where gkore is not installed but run from its checkout."""
    return [] if entry_points(group="pytest11", name="gkore") else ["-p", "gkore.pytest_plugin"]
