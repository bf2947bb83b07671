"""Newer code that can't be served, with ``deployment dev``: browsers see why, everything else gets the old code."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from certificates import Authority
from development import APP, Run, running
from server import DEADLINE, Server, until
from test_browser import CHROMIUM, Browser, browser  # noqa: F401

Start = Callable[..., Server]
HTML = "text/html,application/xhtml+xml,*/*;q=0.8"
CONF = """
server web {{
    bind 127.0.0.1 0
    {tls}
}}
python_import app.py
deployment {deployment}
domain one.test {{
    attach web
    {files}
    route / {{
        handler page
    }}
}}
"""
PAGE = "def page(req):\n    req.response(200, 'old')\n"
AS_A_BROWSER = {"accept": HTML, "host": "one.test"}


def opened(run: Run, path: str = "/") -> tuple[int, str]:
    """What a browser gets that navigates there."""
    return run.get(path, HTML, sec_fetch_mode="navigate")


def waits(page: str) -> bytes:
    """What the script of a page asks: is there anything new?"""
    mark = page.partition("mark='")[2][:8]
    return f"GET / HTTP/1.1\r\nHost: x\r\nGkore-Wait: {mark}\r\n\r\n".encode()


def test_browsers_see_it_and_others_the_old_code(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP.format(text="old"))
    with running(tmp_path) as run:
        run.ready()
        assert opened(run) == run.get("/") == (200, "old")

        app.write_text(APP.format(text="new") + "\nimport nothing_of_that_<name>\n")
        until(lambda: opened(run)[0] == 500, run.log)
        page = opened(run)[1]
        assert "<h1>SyntaxError: invalid syntax (app.py, line 15)</h1>" in page
        assert f"{app}:15 " in page
        assert "<span class=at><i>   15 </i>import nothing_of_that_&lt;name&gt;</span>" in page
        assert opened(run, "/not/declared/yet")[0] == run.get("/", HTML)[0] == 500
        for mode in ("cors", "no-cors", "same-origin", "websocket"):
            assert run.get("/", HTML, sec_fetch_mode=mode) == (200, "old")
        assert run.get("/") == (200, "old")
        assert run.get("/not/declared/yet")[0] == 404
        assert "LookupError" in run.get("/broken")[1]

        app.write_text(APP.format(text="new") + "\nimport nothing_of_that_name\n")
        until(lambda: "<h1>ModuleNotFoundError" in opened(run)[1], run.log)

        app.write_text(APP.format(text="new") + "\ndef kore_worker_configure():\n    raise OSError('no cellar')\n")
        until(lambda: "<h1>OSError: no cellar</h1>" in opened(run)[1], run.log)
        assert ":16 in kore_worker_configure</h2>" in opened(run)[1]
        assert run.get("/") == (200, "old")

        assert run.get("/", gkore_wait="another")[0] == 205, "who sees another mistake than this one need not wait"
        page = opened(run)[1]
        with closing(socket.create_connection(("127.0.0.1", int(run.url.rpartition(":")[2])), DEADLINE)) as waiting:
            waiting.sendall(waits(page))
            app.write_text(APP.format(text="new"))
            assert waiting.recv(65536).startswith(b"HTTP/1.1 205 "), "the page is told to load itself again"
        until(lambda: opened(run) == (200, "new"), run.log)


def test_a_stop_tells_waiting_pages_to_ask_again(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP.format(text="old"))
    with running(tmp_path) as run:
        run.ready()
        (tmp_path / "app.py").write_text("1 +\n")
        until(lambda: opened(run)[0] == 500, run.log)
        page = opened(run)[1]
        with closing(socket.create_connection(("127.0.0.1", int(run.url.rpartition(":")[2])), DEADLINE)) as waiting:
            waiting.sendall(waits(page))
            until(lambda: run.get("/") == (200, "old"), run.log)  # on the one worker, behind the request that waits
            assert run.stop() == 0
            answer = waiting.recv(65536)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"gkore-wait: again\r\n" in answer


@pytest.mark.parametrize(("deployment", "status"), [("dev", 500), ("docker", 200)])
def test_a_reload_by_signal(server: Start, deployment: str, status: int) -> None:
    up = server(CONF.format(tls="tls no", deployment=deployment, files=""), app=PAGE, workers=1, tracebacks=True)
    assert up.get("/", headers=AS_A_BROWSER).body == b"old"
    (up.directory / "app.py").write_text("import nothing_of_that_name\n")
    assert failed_reload(up) == 1
    if status == 500:
        until(lambda: up.get("/", headers=AS_A_BROWSER).status == 500, up.log)
        assert b"<h1>app.py does not import: ModuleNotFoundError" in up.get("/", headers=AS_A_BROWSER).body
        victim = up.workers[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in up.workers and len(up.workers) == 1, up.log)
        assert up.get("/", headers=AS_A_BROWSER).status == 500, "a worker that was born meanwhile knows it, too"
    else:
        assert up.get("/", headers=AS_A_BROWSER).body == b"old"
    (up.directory / "app.py").write_text(PAGE.replace("old", "new"))
    up.reload()
    until(lambda: up.get("/", headers=AS_A_BROWSER).body == b"new", up.log)


def failed_reload(up: Server) -> int:
    """Ask for a reload that must fail; how many did so far."""
    up.signal(signal.SIGHUP)
    up.says("reload failed, nothing has changed")
    return up.log().count("reload failed, nothing has changed")


def test_over_tls_on_a_connection_that_was_there_before(server: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", "root")
    cert, key = authority.issue("one.test")
    conf = CONF.format(tls="", deployment="dev", files=f"certfile {cert}\n    certkey {key}")
    up = server(conf, app=PAGE, workers=1, tracebacks=True)
    context = ssl.create_default_context(cafile=authority.cert)
    request = f"GET / HTTP/1.1\r\nHost: one.test\r\nAccept: {HTML}\r\n\r\n".encode()
    with (
        socket.create_connection(("127.0.0.1", up.port), DEADLINE) as plain,
        context.wrap_socket(plain, server_hostname="one.test") as client,
    ):

        def status() -> bytes:
            client.sendall(request)
            data = b""
            while b"\r\n\r\n" not in data:
                data += client.recv(65536)
            head, _, body = data.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            while len(body) < length:
                body += client.recv(65536)
            return head[9:12]

        assert status() == status() == b"200"
        (up.directory / "app.py").write_text("import nothing_of_that_name\n")
        failed_reload(up)
        until(lambda: status() == b"500", up.log)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_page_loads_itself_again_when_the_code_is_mended(tmp_path: Path, browser: Browser) -> None:  # noqa: F811
    app = tmp_path / "app.py"
    app.write_text(APP.format(text="old words"))
    with running(tmp_path) as run:
        run.ready()
        app.write_text("import one_wrong_name\n")
        until(lambda: opened(run)[0] == 500, run.log)
        browser.visit(run.url)
        until(lambda: "No module named 'one_wrong_name'" in browser.text(), browser.text)
        app.write_text("import another_wrong_name\n")
        until(lambda: "No module named 'another_wrong_name'" in browser.text(), browser.text)
        app.write_text(APP.format(text="new words"))
        until(lambda: browser.text() == "new words", browser.text)
