"""``kore.httpclient`` and ``kore.curl`` against real HTTP servers: TCP, UNIX, TLS, slow, broken."""

from __future__ import annotations

import gc
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from coroutines import Complete
from gevent.monkey import is_module_patched
from gevent.pywsgi import WSGIServer

from gkore import api as kore
from gkore.conf.application import current

pytestmark = pytest.mark.skipif(not is_module_patched("socket"), reason="its servers share our hub: use pytest-gevent")


def echo(environ: dict[str, Any], start: Any) -> Any:
    """Says what was asked: the method and the target, the header X-Test, the body."""
    body = environ["wsgi.input"].read()
    target = environ["PATH_INFO"] + ("?" + environ["QUERY_STRING"] if environ["QUERY_STRING"] else "")
    if target == "/slow":
        gevent.sleep(600)
    if target == "/moved":
        start("302 Found", [("Location", "/elsewhere"), ("Content-Length", "0")])
        return [b""]
    text = f"{environ['REQUEST_METHOD']} {target} {environ.get('HTTP_X_TEST', '')} ".encode() + body
    if target == "/big":
        text = b"x" * 100_000
    start("201 Created", [("Content-Type", "text/plain"), ("X-Answer", "yes"), ("Content-Length", str(len(text)))])
    return [b""] if environ["REQUEST_METHOD"] == "HEAD" else [text]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    directory = tmp_path_factory.mktemp("tls")
    paths = str(directory / "cert.pem"), str(directory / "key.pem")
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run([*words.split(), "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
    return paths


@pytest.fixture
def served(certificate: tuple[str, str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """URLs of the same application, over TCP and TLS, and the path of a UNIX socket."""
    unix = gevent.socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "s"))
    unix.listen()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate[0])
    context.load_cert_chain(*certificate)
    context.verify_mode = ssl.CERT_OPTIONAL
    servers = [
        WSGIServer(("127.0.0.1", 0), echo, log=None),
        WSGIServer(("127.0.0.1", 0), echo, log=None, ssl_context=context),
        WSGIServer(unix, echo, log=None),
    ]
    for server in servers:
        server.start()
    yield {
        "http": f"http://localhost:{servers[0].server_port}",
        "https": f"https://localhost:{servers[1].server_port}",
        "unix": str(tmp_path / "s"),
    }
    for server in servers:
        server.stop(timeout=0)


@pytest.fixture(params=["geventhttpclient", "libcurl"])
def curlopt(request: pytest.FixtureRequest) -> dict[int, Any]:
    """Options that change nothing, so that libcurl makes the request."""
    return {} if request.param == "geventhttpclient" else {kore.CURLOPT_VERBOSE: 0}  # type: ignore[dict-item]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda name, value: monkeypatch.setitem(current().settings._values, name, value)


def ask(complete: Complete, client: Any, method: str = "get", **keywords: Any) -> Any:
    async def main() -> Any:
        return await getattr(client, method)(**keywords)

    return complete(main())


@pytest.mark.parametrize("method", ["get", "options", "delete"])
def test_methods_without_a_body(
    complete: Complete, served: dict[str, str], curlopt: dict[int, Any], method: str
) -> None:
    client = kore.httpclient(served["http"] + "/path?a=b%20c", curlopt=curlopt)
    for _ in range(2):
        assert ask(complete, client, method) == (201, f"{method.upper()} /path?a=b%20c  ".encode())


@pytest.mark.parametrize("method", ["put", "post", "patch", "delete"])
@pytest.mark.parametrize("body", [b"data\0\xff", "text"])
def test_methods_with_a_body(
    complete: Complete, served: dict[str, str], curlopt: dict[int, Any], method: str, body: Any
) -> None:
    client = kore.httpclient(served["http"], curlopt=curlopt)
    status, answer = ask(complete, client, method, body=body, headers={"X-Test": "header"})
    expected = body if isinstance(body, bytes) else body.encode()
    assert (status, answer) == (201, f"{method.upper()} / header ".encode() + expected)


def test_head_and_headers(complete: Complete, served: dict[str, str], curlopt: dict[int, Any]) -> None:
    client = kore.httpclient(served["http"], curlopt=curlopt)
    status, headers, body = ask(complete, client, "head", return_headers=True)
    assert (status, body) == (201, b"")
    found = {name.lower(): value for name, value in headers.items()}
    assert found["x-answer"] == "yes"
    assert found["content-type"] == "text/plain"


def test_redirects_are_not_followed(complete: Complete, served: dict[str, str]) -> None:
    client = kore.httpclient(served["http"] + "/moved")
    assert ask(complete, client) == (302, b"")
    followed = ask(complete, client, curlopt={kore.CURLOPT_FOLLOWLOCATION: 1})
    assert followed == (201, b"GET /elsewhere  ")


def test_unix_sockets(complete: Complete, served: dict[str, str], curlopt: dict[int, Any]) -> None:
    client = kore.httpclient("http://name/path", unix=served["unix"], curlopt=curlopt)
    assert ask(complete, client) == (201, b"GET /path  ")
    gone = kore.httpclient("http://name/path", unix=served["unix"] + "x", curlopt=curlopt)
    with pytest.raises(RuntimeError, match="request to 'http://name/path' failed: "):
        ask(complete, gone)


def test_abstract_unix_sockets(complete: Complete) -> None:
    name = f"gkore-http-{os.getpid()}"
    listener = gevent.socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{name}")
    listener.listen()
    server = WSGIServer(listener, echo, log=None)
    server.start()
    try:
        client = kore.httpclient("http://name/path", unix=f"@{name}")
        assert ask(complete, client) == (201, b"GET /path  ")
        with pytest.raises(RuntimeError, match="abstract"):
            ask(complete, client, curlopt={kore.CURLOPT_VERBOSE: 0})
    finally:
        server.stop(timeout=0)


def test_tls(complete: Complete, served: dict[str, str], certificate: tuple[str, str], curlopt: dict[int, Any]) -> None:
    url = served["https"]
    assert ask(complete, kore.httpclient(url, cabundle=certificate[0], curlopt=curlopt)) == (201, b"GET /  ")
    assert ask(complete, kore.httpclient(url, tlsverify=False, curlopt=curlopt)) == (201, b"GET /  ")
    with pytest.raises(RuntimeError, match=r"(?i)failed: .*certificate"):
        ask(complete, kore.httpclient(url, curlopt=curlopt))
    other = url.replace("localhost", "127.0.0.1")
    with pytest.raises(RuntimeError, match=r"(?i)failed: .*(match|mismatch|not valid|subject name)"):
        ask(complete, kore.httpclient(other, cabundle=certificate[0], curlopt=curlopt))
    mutual = kore.httpclient(
        url, cabundle=certificate[0], tlscert=certificate[0], tlskey=certificate[1], curlopt=curlopt
    )
    assert ask(complete, mutual) == (201, b"GET /  ")
    for half in ({"tlscert": certificate[0]}, {"tlskey": certificate[1]}):
        with pytest.raises(RuntimeError, match="invalid TLS client configuration"):
            kore.httpclient(url, **half)


def test_the_time_is_bounded(
    complete: Complete, served: dict[str, str], settings: Any, curlopt: dict[int, Any]
) -> None:
    settings("curl_timeout", 1)
    client = kore.httpclient(served["http"] + "/slow", curlopt=curlopt)
    with pytest.raises(RuntimeError, match=r"failed: .*(?i:time)"):
        ask(complete, client)


def test_the_answer_is_bounded(
    complete: Complete, served: dict[str, str], settings: Any, curlopt: dict[int, Any]
) -> None:
    client = kore.httpclient(served["http"] + "/big", curlopt=curlopt)
    settings("curl_recv_max", 100_000)
    assert ask(complete, client) == (201, b"x" * 100_000)
    settings("curl_recv_max", 99_999)
    with pytest.raises(RuntimeError, match="failed: "):
        ask(complete, client)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort"])
def test_servers_that_talk_nonsense(complete: Complete, curlopt: dict[int, Any], answer: bytes) -> None:
    with gevent.socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                connection.recv(65536)
                connection.sendall(answer)
                connection.close()

        served = gevent.spawn(serve)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(RuntimeError, match=f"request to '{url}' failed: "):
            ask(complete, kore.httpclient(url, curlopt=curlopt))
        served.kill()
    with pytest.raises(RuntimeError, match=f"request to '{url}' failed: "):
        ask(complete, kore.httpclient(url, curlopt=curlopt))


def test_misuse(complete: Complete) -> None:
    client = kore.httpclient("http://localhost")
    for method in (client.put, client.post, client.patch):
        with pytest.raises(RuntimeError, match="no keyword arguments given, but body expected"):
            method()
        with pytest.raises(RuntimeError, match="body expected"):
            method(headers={})
    with pytest.raises(RuntimeError, match="headers keyword must be a dict"):
        client.get(headers=[])
    for wrong in (lambda: client.get(curlopt=[]), lambda: kore.httpclient("http://x", curlopt=5)):
        with pytest.raises(RuntimeError, match="curlopt must be a dictionary"):
            wrong()
    for url in ("", "ftp://localhost", "http://"):
        with pytest.raises(RuntimeError, match=f"request to '{url}' failed: "):
            ask(complete, kore.httpclient(url))
    with pytest.raises(RuntimeError, match=r"failed: .*header"):
        ask(complete, client, headers={"X": "a\r\nb"})


def test_requests_that_are_ended_leave_nothing(
    complete: Complete, served: dict[str, str], curlopt: dict[int, Any]
) -> None:
    client = kore.httpclient(served["http"] + "/slow", curlopt=curlopt)

    async def request() -> None:
        await client.get()

    async def main() -> None:
        idents = [kore.task_create(request()) for _ in range(10)]
        await kore.suspend(50)
        for ident in idents:
            assert kore.task_kill(ident)

    def connections() -> list[str]:
        gc.collect()
        port = f":{int(served['http'].rpartition(':')[2]):04X}"
        lines = Path("/proc/self/net/tcp").read_text().splitlines()
        return [line for line in lines if line.split()[2].endswith(port) and line.split()[3] == "01"]

    complete(main())
    assert connections() == []


def test_curl(complete: Complete, served: dict[str, str]) -> None:
    async def main() -> Any:
        handle = kore.curl(served["http"] + "/curl")
        handle.setopt(kore.CURLOPT_HTTPHEADER, ["X-Test: header"])
        handle.setbody(b"body")
        with pytest.raises(RuntimeError, match="curl handle already has body attached"):
            handle.setbody(b"body")
        with pytest.raises(RuntimeError, match=r"curl\.setbody expects bytes"):
            handle.setbody("body")
        with pytest.raises(RuntimeError, match="invalid option '-1'"):
            handle.setopt(-1, 1)
        with pytest.raises(RuntimeError, match="invalid option"):
            handle.setopt(kore.CURLOPT_TIMEOUT, "x")
        return await handle.run()

    assert complete(main()) == b"POST /curl header body"
    with pytest.raises(AttributeError, match="CURLOPT_NONSENSE"):
        kore.CURLOPT_NONSENSE  # noqa: B018


def test_many_transfers_at_once(complete: Complete, served: dict[str, str], curlopt: dict[int, Any]) -> None:
    client = kore.httpclient(served["http"] + "/path", curlopt=curlopt)

    async def one() -> Any:
        return await client.get()

    async def main() -> Any:
        return await kore.gather(*(one() for _ in range(50)))

    assert complete(main()) == [(201, b"GET /path  ")] * 50


def test_a_failed_curl_says_why(complete: Complete) -> None:
    async def main() -> Any:
        return await kore.curl("http://127.0.0.1:1/").run()

    with pytest.raises(RuntimeError, match=r"request failed: .*127"):
        complete(main())


def test_without_pycurl_the_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['pycurl'] = None\n"
        "import kore\n"
        "for use in (lambda: kore.curl('x'), lambda: kore.CURLOPT_URL):\n"
        "    try: use()\n"
        "    except ImportError as failure: print(failure)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.count("pip install gkore[curl]") == 2
