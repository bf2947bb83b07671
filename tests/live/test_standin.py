"""``gkore run`` whose first start fails: browsers are shown why, until it starts."""

from __future__ import annotations

import socket
import ssl
from contextlib import closing
from pathlib import Path

import pytest
from certificates import Authority
from development import APP, Run, running
from server import DEADLINE, until
from test_browser import CHROMIUM, Browser, browser  # noqa: F401
from test_refusal import HTML, PAGE, opened, waits

from gkore.develop.standin import spelled
from gkore.worker.refusal import is_here

CONF = "bind 127.0.0.1 0\npython_import app.py\ndomain * {\n    route / page\n}\n"


def shown(run: Run, times: int = 1) -> None:
    until(lambda: run.log().count("browsers are shown it, too: ") >= times, run.log)


def test_a_module_that_does_not_import(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    (tmp_path / "kore.conf").write_text(CONF)
    app.write_text("import nothing_of_that_name\n")
    with running(tmp_path) as run:
        shown(run)
        status, page = opened(run)
        assert status == 500
        assert "<h1>app.py does not import: ModuleNotFoundError: No module named &#x27;nothing_of_that_name" in page
        assert "<span class=at><i>    1 </i>import nothing_of_that_name</span>" in page
        assert opened(run, "/any/path?at=all")[0] == 500
        status, text = run.get("/")
        assert status == 503
        assert text.startswith("kore.conf:2:15: error: app.py does not import: ModuleNotFoundError")

        with closing(socket.create_connection(("127.0.0.1", int(run.url.rpartition(":")[2])), DEADLINE)) as waiting:
            waiting.sendall(waits(page))
            app.write_text("import another_name\n")
            assert waiting.recv(65536).startswith(b"HTTP/1.1 205 "), "another mistake: the page loads itself again"
        until(lambda: "another_name" in opened(run)[1], run.log)

        app.write_text(PAGE)
        until(lambda: opened(run) == run.get("/") == (200, "old"), run.log)
        assert f"listening on {run.url} (server default, 1 worker)" in run.log()

        app.write_text("import a_third_name\n")
        until(lambda: opened(run)[0] == 500, run.log)
        assert run.get("/") == (200, "old"), "from now on there is code to fall back on"


@pytest.mark.parametrize(
    ("conf", "app", "said"),
    [
        (CONF + "wrokers 2\n", PAGE, "kore.conf:6:1: error: &quot;wrokers&quot; is not a directive"),
        (CONF, PAGE + "def kore_worker_configure():\n    raise OSError('no cellar')\n", "<h1>OSError: no cellar"),
        (CONF, PAGE + "def kore_parent_configure(args):\n    raise OSError('no roof')\n", "no roof"),
        (CONF, "import os\nos._exit(7)\n", "ended with status 7"),
        ("", APP.format(text="x") + "1 +\n", "<h1>SyntaxError: invalid syntax (app.py, line 14)"),
    ],
)
def test_whatever_is_wrong_is_on_the_page(conf: str, app: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "kore.conf").write_text(conf) if conf else None
    (tmp_path / "app.py").write_text(app)
    with running(tmp_path) as run:
        if "_exit" in app:  # nobody has said an address
            until(lambda: "nothing is served yet" in run.log(), run.log)
            return
        shown(run)
        assert said in opened(run)[1]


def test_the_address_of_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP.format(text="x").replace('port="0"', 'port="1"') + "1 +\n")
    with running(tmp_path, "--bind", "127.0.0.1:0", "app.py") as run:
        shown(run)
        assert not run.url.endswith(":1")
        assert "SyntaxError" in opened(run)[1]
        (tmp_path / "app.py").write_text(APP.format(text="mended"))
        until(lambda: run.get("/") == (200, "mended"), run.log)


def test_the_address_of_a_packages_conf(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "kore.conf").write_text("bind 127.0.0.1 0\ndomain * {\n    route / page\n}\n")
    (package / "__init__.py").write_text("from shop.handlers import page\n")
    (package / "handlers.py").write_text(PAGE + "1 +\n")
    with running(tmp_path, "shop") as run:
        shown(run)
        page = opened(run)[1]
        assert f"{package}/handlers.py:3 </h2>" in page
        (package / "handlers.py").write_text(PAGE)
        until(lambda: run.get("/") == (200, "old"), run.log)


def test_an_address_that_comes_with_the_mend_of_another_mistake(tmp_path: Path) -> None:
    conf = tmp_path / "kore.conf"
    conf.write_text(CONF.replace("bind 127.0.0.1 0", "bind 127.0.0.1 http"))
    (tmp_path / "app.py").write_text("1 +\n")
    with running(tmp_path) as run:
        until(lambda: "nothing is served yet" in run.log(), run.log)
        conf.write_text(CONF)
        shown(run)
        assert "SyntaxError" in opened(run)[1]
        (tmp_path / "app.py").write_text(PAGE)
        until(lambda: run.get("/") == (200, "old"), run.log)


def test_over_tls_with_the_certificate_of_the_conf(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", "root")
    cert, key = authority.issue("one.test")
    files = f"domain one.test {{\n    certfile {cert}\n    certkey {key}"
    (tmp_path / "kore.conf").write_text(CONF.replace("domain * {", files))
    (tmp_path / "app.py").write_text("1 +\n")
    context = ssl.create_default_context(cafile=authority.cert)
    with running(tmp_path) as run:
        shown(run)
        with (
            socket.create_connection(("127.0.0.1", int(run.url.rpartition(":")[2])), DEADLINE) as plain,
            context.wrap_socket(plain, server_hostname="one.test") as client,
        ):
            client.sendall(f"GET / HTTP/1.0\r\nHost: one.test\r\nAccept: {HTML}\r\n\r\n".encode())
            data = b"".join(iter(lambda: client.recv(65536), b""))
        assert data.startswith(b"HTTP/1.0 500 ")
        assert b"SyntaxError" in data


def test_only_this_machine_is_told() -> None:
    here = [("127.0.0.1", 1), ("127.9.9.9", 1), ("::1", 1, 0, 0), "", "@client"]
    assert [peer for peer in here if not is_here(peer)] == []
    there = [("192.0.2.1", 1), ("10.0.0.1", 1), ("fe80::1%eth0", 1, 0, 2)]
    assert [peer for peer in there if is_here(peer)] == []


def test_what_a_script_spells_out(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "kore.server('web', ip='127.0.0.1', port='8888', tls=False)\n"
        "    kore.server(\n    ip='::1', port=80, tls=False,\n)\n"
        "kore.bind('127.0.0.1', '81')\n"
        "# kore.bind('127.0.0.1', '82')\n"
        "kore.server('secret', ip='127.0.0.1', port='443')\n"
        "kore.server(ip=HOST, port='8888', tls=False)\n"
        "kore.server(ip='127.0.0.1', port='http', tls=False)\n"
        "kore.server(**{'ip': '127.0.0.1'}, tls=[])\nkore.bind()\nkore.bind(1, 2)\nkore.server(}\n"
    )
    found = {name: [str(bind) for bind in server.binds] for name, server in spelled(str(script)).servers.items()}
    assert found == {"web": ["127.0.0.1:8888"], "default": ["[::1]:80", "127.0.0.1:81"]}
    assert spelled(str(tmp_path / "absent.py")).servers == {}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_page_becomes_the_application(tmp_path: Path, browser: Browser) -> None:  # noqa: F811
    (tmp_path / "kore.conf").write_text(CONF)
    (tmp_path / "app.py").write_text("import one_wrong_name\n")
    with running(tmp_path) as run:
        shown(run)
        browser.visit(run.url)
        until(lambda: "No module named 'one_wrong_name'" in browser.text(), browser.text)
        (tmp_path / "app.py").write_text("import another_wrong_name\n")
        until(lambda: "No module named 'another_wrong_name'" in browser.text(), browser.text)
        (tmp_path / "app.py").write_text(PAGE)
        until(lambda: browser.text() == "old", browser.text)
