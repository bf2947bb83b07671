"""The demo site, as a newcomer starts it: every link on its page answers."""

from __future__ import annotations

import html
import http.client
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

ROOT = Path(__file__).parents[1]
DEADLINE = 30.0


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of the demo site, started from another directory."""
    log = tmp_path_factory.mktemp("demo") / "log"
    command = [
        sys.executable,
        "-m",
        "gkore",
        "--workers",
        "2",
        "--bind",
        "127.0.0.1:0",
        "-c",
        str(ROOT / "etc/kore.conf"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=log.parent, env=environment, stderr=file)
    try:
        yield wait_for_port(log, process)
    finally:
        process.terminate()
        status = process.wait(DEADLINE)
    assert status == 0
    assert "Traceback" not in log.read_text()


def wait_for_port(log: Path, process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"listening on http://127.0.0.1:(\d+)", text := log.read_text())
        if found and "ready: " in text:
            return int(found[1])
        time.sleep(0.02)
    raise AssertionError(log.read_text())


def ask(port: int, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    if form is None:
        connection.request("GET", path)
    else:
        kind = {"content-type": "application/x-www-form-urlencoded"}
        connection.request("POST", path, urlencode(form), kind)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body


def test_every_link_of_the_page_answers(port: int) -> None:
    status, page = ask(port, "/")
    assert status == 200
    links = [html.unescape(link) for link in re.findall(r'href="(/[^"]*)"', page)]
    assert {link: ask(port, link)[0] for link in links} == {link: 404 if link == "/nothing" else 200 for link in links}
    assert len(links) == 9


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/hello", "hello world\n"),
        ("/greet", "Hello, stranger!\n"),
        ("/greet?name=Ada&times=3", "Hello, Ada!\n" * 3),
        ("/greet?name=%3Cb%3E&times=99", "Hello, stranger!\n"),
        ("/square/12", "12 squared is 144\n"),
    ],
)
def test_answers(port: int, path: str, body: str) -> None:
    assert ask(port, path) == (200, body)


def test_the_async_handler_waits(port: int) -> None:
    status, body = ask(port, "/slow")
    assert status == 200
    assert body.startswith("waited ")


def test_the_form(port: int) -> None:
    status, page = ask(port, "/form", {"name": "Ada", "text": "one\r\n<two>"})
    assert status == 200
    assert "Thank you, Ada" in page
    assert "one\r\n&lt;two&gt;" in page
    assert "Not quite" in ask(port, "/form", {"name": "<b>", "text": "x"})[1]
