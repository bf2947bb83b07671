"""``gkore.testing``: what an application's own tests use, tried on small applications."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest
from pages import plugin

from gkore.errors import ConfError
from gkore.testing import Client

pytest_plugins = ["pytester"]

APP = """
    import kore

    seen = []

    @kore.route("/", methods=["get"])
    def hello(req):
        req.response(200, b"hello")

    @kore.route("/wait", methods=["get"])
    async def wait(req):
        await kore.suspend(1)
        first, second = await kore.gather(number(1), number(2))
        req.response_header("x-sum", str(first + second))
        req.response(200, "waited")

    async def number(n):
        return n

    @kore.route("/form", post={"name": "^[a-z]+$"})
    def form(req):
        req.populate_post()
        req.response(200, f"{req.argument('name')}")

    @kore.route("/echo", methods=["put"])
    def echo(req):
        req.response(201, req.body)

    @kore.route("/fail")
    def fail(req):
        raise LookupError("no such thing")

    @kore.route("/count")
    def count(req):
        req.response(200, (f"{n}\\n" for n in range(3)))

    @kore.route("/ws", methods=["get"])
    def ws(req):
        req.websocket_handshake(joined, said, left)

    def joined(c):
        c.websocket_send(kore.WEBSOCKET_OP_TEXT, "welcome")

    async def said(c, op, data):
        await kore.suspend(1)
        kore.websocket_broadcast(None, op, data, kore.WEBSOCKET_BROADCAST_GLOBAL)

    def left(c):
        seen.append("left")

    kore.domain("*")
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "small_app.py"
    path.write_text(textwrap.dedent(APP))
    return path


def test_handlers_plain_and_async(script: Path) -> None:
    with Client(script) as client:
        assert (client.get("/").status, client.get("/").body) == (200, b"hello")
        answer = client.get("/wait")
        assert (answer.text, answer.headers["X-Sum"]) == ("waited", "3")
        assert client.get("/nothing").status == 404
        assert client.put("/").status == 405
        assert client.request("HEAD", "/").body == b""


def test_bodies(script: Path) -> None:
    with Client(script) as client:
        assert client.post("/form", form={"name": "ada"}).text == "ada"
        assert client.post("/form", form={"name": "ADA"}).text == "None"
        assert client.put("/echo", json=[1]).json() == [1]
        large = bytes(900_000)
        assert client.put("/echo", body=large).body == large
        assert client.get("/count").text == "0\n1\n2\n"
        with client.stream("GET", "/count") as response:
            assert response.readline() == b"0\n"


def test_what_a_handler_raises_is_raised_in_the_test(script: Path) -> None:
    with Client(script) as client, pytest.raises(LookupError, match="no such thing"):
        client.get("/fail")
    with Client(script, raises=False) as client:
        assert client.get("/fail").status == 500


def test_two_clients_at_once_are_two_applications(script: Path) -> None:
    with Client(script) as one, Client(script, raises=False) as other:
        assert one.application.modules[0] is not other.application.modules[0]
        assert other.get("/fail").status == 500
        assert one.get("/").text == "hello"
        with pytest.raises(LookupError):
            one.get("/fail")


def test_websockets(script: Path) -> None:
    with Client(script) as client:
        with client.websocket("/ws") as one, client.websocket("/ws") as other:
            assert [one.recv(), other.recv()] == ["welcome", "welcome"]
            one.send("to all")
            assert [one.recv(), other.recv()] == ["to all", "to all"]
            other.send(b"\x00\xff")
            assert one.recv() == b"\x00\xff"
        with pytest.raises(ConnectionError, match="refused"), client.websocket("/"):
            pass
        assert client.application.modules[0].seen == ["left", "left"]


def test_a_handler_that_never_answers_in_time_is_a_timeout(tmp_path: Path) -> None:
    path = tmp_path / "never.py"
    path.write_text(
        "import kore\n@kore.route('/')\nasync def page(req):\n await kore.suspend(60000)\nkore.domain('*')\n"
    )
    with Client(path, seconds=0.05) as client, pytest.raises(TimeoutError):
        client.get("/")


def test_a_conf_as_text_and_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "handlers.py").write_text("def page(req, number):\n req.response(200, number)\n")
    conf = "python_import handlers.py\ndomain * {\n\troute ^/([0-9]+)$ page\n}\n"
    (tmp_path / "site.conf").write_text(conf)
    monkeypatch.chdir(tmp_path)
    for app in (conf, "site.conf", tmp_path / "site.conf"):
        with Client(app) as client:
            assert client.get("/42").text == "42"
            assert client.get("/x").status == 404


def test_an_imported_module_more_than_once(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(script.parent)
    import small_app

    try:
        for _ in range(2):
            with Client(small_app) as client:
                assert client.get("/").text == "hello"
    finally:
        del sys.modules["small_app"]


def test_mistakes_of_the_conf_are_raised() -> None:
    with pytest.raises(ConfError):
        Client("domain * {\n\tfrobnicate\n}\n")


def test_hooks_of_parent_and_worker_run(tmp_path: Path) -> None:
    path = tmp_path / "hooked.py"
    path.write_text(
        "import kore\nsaid = []\ndef kore_worker_configure(): said.append('up')\n"
        "def kore_worker_teardown(): said.append('down')\nkore.domain('*')\n"
        "def kore_parent_teardown(): said.append('over')\n"
    )
    with Client(path) as client:
        said = client.application.modules[0].said
        assert said == ["up"]
    assert said == ["up", "down", "over"]


@pytest.mark.parametrize("way", ["alone", "xdist", "pytest-gevent"])
def test_the_fixtures_in_a_project_of_their_own(way: str, pytester: pytest.Pytester, script: Path) -> None:
    if way == "xdist":
        pytest.importorskip("xdist", reason="pytest-xdist is not installed (pip install gkore[test])")
    (pytester.path / "app.py").write_text(script.read_text())
    (pytester.path / "leaky.py").write_text(
        "import kore\nkept = []\n@kore.route('/')\ndef page(req):\n kept.append(open('/dev/null'))\n"
        " req.response(200)\nkore.domain('*')\n"
    )
    pytester.makepyfile(
        """
        import sys
        from pathlib import Path

        APP = Path(__file__).parent / "app.py"

        def test_the_real_server(gkore_server):
            up = gkore_server(APP, leaks=True)
            assert up.get("/").text == "hello"
            assert len(up.workers) == 2
            assert up.url.startswith("http://127.0.0.1:") and up.ws_url.startswith("ws://127.0.0.1:")
            assert up.stop() == 0

        def test_a_conf_text(gkore_server):
            conf = "domain * {\\n\\troute / page\\n}\\n"
            up = gkore_server(conf, app="def page(req): req.response(200, 'hi')", workers=1)
            assert up.get("/").text == "hi"

        def test_a_traceback_fails(gkore_server):
            gkore_server(APP).get("/fail")

        def test_in_process(gkore_client):
            assert gkore_client(APP).get("/wait").text == "waited"

        def test_a_leak_fails(monkeypatch, gkore_server):
            up = gkore_server(APP.with_name("leaky.py"), leaks=True, workers=1)
            up.get("/")
            monkeypatch.setattr(sys.modules["gkore.testing.server"], "DEADLINE", 1.0)  # for them to be closed
        """
    )
    words = [*plugin(), "-p", "no:cacheprovider", *(["-n", "2"] if way == "xdist" else [])]
    if way == "pytest-gevent":
        result = pytester.run(sys.executable, "-m", "pytest_gevent", *words)
    else:
        result = pytester.runpytest_subprocess(*words)
    result.assert_outcomes(passed=5, errors=2)
    result.stdout.fnmatch_lines_random(["*ERROR*test_a_traceback_fails*", "*ERROR*test_a_leak_fails*"])
