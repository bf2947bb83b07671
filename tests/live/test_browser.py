"""A real browser on the demo site: Chromium, told over its debugging protocol, fills in and posts real forms."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from pages import ROOT, Session, blocks
from server import DEADLINE, Server, until
from server import server as server_of
from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DEMO = Path(__file__).parents[2] / "etc" / "kore.conf"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


class Browser:
    """One tab of a headless Chromium."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the debugging protocol and give its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv(DEADLINE))
            if said.get("id") == self._number:
                if "navigated" in str(said.get("error")):
                    raise LookupError("the page is being left")
                assert "error" not in said, said
                return said["result"]

    def run(self, script: str) -> Any:
        """What a script of the page results in; one that was just being left is asked again once the next is there."""
        try:
            return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")
        except LookupError:
            return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def visit(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.settled(url)

    def settled(self, url: str = "") -> None:
        """Wait until a page is there."""
        until(
            lambda: self.run("document.readyState") == "complete" and url in self.run("location.href"),
            lambda: f"the page {url}",
        )

    def text(self) -> str:
        return str(self.run("document.body.innerText"))

    def choose(self, selector: str, path: Path) -> None:
        """Choose a file, as a person does."""
        found = self.call("Runtime.evaluate", expression=f"document.querySelector('{selector}')")["result"]
        self.call("DOM.setFileInputFiles", files=[str(path)], objectId=found["objectId"])


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_of(tmp_path_factory.mktemp("demo"), DEMO, workers=2, arguments=["--bind", "127.0.0.1:0"]) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    profile = tmp_path_factory.mktemp("chromium")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    options = [f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"]
    log = profile / "log"
    with log.open("wb") as file:
        child = subprocess.Popen(
            [*command, *options], stdout=file, stderr=file, env={**os.environ, "HOME": str(profile)}
        )
    try:
        until(lambda: "DevTools listening on" in log.read_text(), lambda: f"Chromium: {log.read_text()}")
        found = re.search(r"ws://\S+", log.read_text())
        assert found is not None
        with connect(found[0], open_timeout=DEADLINE, max_size=None) as socket:
            whole = Browser(socket)
            target = whole.call("Target.createTarget", url="about:blank")["targetId"]
        tab = re.sub(r"/browser/.*", f"/page/{target}", found[0])
        with connect(tab, open_timeout=DEADLINE, max_size=None) as socket:
            yield Browser(socket)
    finally:
        child.terminate()
        child.wait(DEADLINE)


def test_a_form(up: Server, browser: Browser) -> None:
    browser.visit(f"http://127.0.0.1:{up.port}/form")
    browser.run("document.querySelector('[name=name]').value = 'Ada O\\'Hara'")
    browser.run("document.querySelector('[name=text]').value = 'ümlaut & <b>\\nline two'")
    browser.run("document.querySelector('button').click()")
    until(lambda: "Thank you" in browser.text(), "the answer")
    assert "Thank you, Ada O'Hara" in browser.text()
    assert "ümlaut & <b>" in browser.text()


def test_a_file(up: Server, browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / 'a "file" mit ümlaut.bin'
    path.write_bytes(os.urandom(3_000_000))
    browser.visit(f"http://127.0.0.1:{up.port}/upload")
    browser.choose("[name=file]", path)
    browser.run("document.querySelector('button').click()")
    until(lambda: "SHA-256" in browser.text(), lambda: browser.text())
    assert hashlib.sha256(path.read_bytes()).hexdigest() in browser.text()
    assert "3000000 bytes" in browser.text()
    assert "mit ümlaut.bin" in browser.text()


def test_the_guest_book_of_the_tutorial(browser: Browser, tmp_path: Path) -> None:
    session = Session(tmp_path)
    try:
        for block in blocks(ROOT / "docs/tutorial.md"):
            if block.file:
                session.run(block)
        session.serve("docs/tutorial.md", "gkore -c kore.conf", [])
        browser.visit(f"http://127.0.0.1:{session.port}/live")
        write = "document.getElementById('line').value = '{}'; document.querySelector('button').click()"
        browser.run(write.format("first"))
        until(lambda: "first" in browser.text(), lambda: browser.text())
        browser.run("document.getElementById('line').removeAttribute('maxlength')")
        browser.run(write.format("x" * 81))
        until(lambda: "line: 1 to 80 characters" in browser.text(), lambda: browser.text())
        assert browser.run("document.getElementById('line').value") == "x" * 81, "what was refused is lost"
        session.serve("docs/tutorial.md", "gkore -c kore.conf", [])  # a restart: the page connects again by itself
        with urlopen(f"http://127.0.0.1:{session.port}/", data=b"line=second", timeout=DEADLINE) as answer:
            assert answer.status == 201
        until(lambda: "second" in browser.text(), lambda: browser.text())
        assert browser.text().count("first") == 1
    finally:
        session.close()
