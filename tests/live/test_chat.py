"""The chat of the demo site in a real browser: two tabs on different workers talk."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from server import DEADLINE, Server, until
from test_browser import CHROMIUM, Browser, browser, up  # noqa: F401  fixtures
from websockets.sync.client import connect

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the chat page is NOT tested")


@pytest.fixture
def second(browser: Browser) -> Iterator[Browser]:  # noqa: F811
    """Another tab of the same browser."""
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    here = browser._socket.request
    assert here is not None
    address = f"ws://{here.headers['host']}/devtools/page/{target}"
    with connect(address, open_timeout=DEADLINE, max_size=None) as socket:
        yield Browser(socket)


def worker_of(tab: Browser) -> str:
    until(lambda: "on worker" in tab.text(), lambda: tab.text())
    found = re.search(r"You are (guest (\d+)-\d+), on worker (\d+)", tab.text())
    assert found is not None
    assert found[2] == found[3]
    return found[2]


def say(tab: Browser, text: str) -> None:
    tab.run(f"document.querySelector('#text').value = {text!r}; document.querySelector('#say').requestSubmit()")


def test_two_tabs_on_different_workers_talk(up: Server, browser: Browser, second: Browser) -> None:  # noqa: F811
    url = f"http://127.0.0.1:{up.port}/chat"
    browser.visit(url)
    mine = worker_of(browser)
    for _ in range(100):
        second.visit(url)
        if worker_of(second) != mine:
            break
    say(browser, "hello <b>there</b> 🐙")
    until(lambda: "hello <b>there</b> 🐙" in second.text(), lambda: second.text())
    assert browser.text().count("hello <b>there</b>") == 1
    say(second, "and back")
    until(lambda: "and back" in browser.text(), lambda: browser.text())
    second.run("socket.onclose = null; socket.close()")
    until(lambda: "has left" in browser.text(), lambda: browser.text())
