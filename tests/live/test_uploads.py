"""Forms with files, bodies on disk, and hooks that see a request before it is whole."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import Server, opened, until
from server import server as server_of

APP = """
import json
import os
import kore
from gkore.worker.beneath import Root
from gkore.worker.body import unnamed
from gkore.worker.files import File, stamped

def upload(req):
    req.populate_multi()
    found = {}
    for name in ("file", "other", "empty"):
        file = req.file_lookup(name)
        if file is not None:
            length, data = file.read(3)
            rest = file.read(10_000_000)
            found[name] = [file.name, file.filename, length, data.decode("latin-1"), rest[0], file.read(5)[0]]
    found["text"] = req.argument("text")
    found["undeclared"] = req.argument("undeclared")
    req.response(200, json.dumps(found))

def alias(req):
    req.populate_multipart()
    req.response(200, str(req.file_lookup("file").size))

def body(req):
    path = req.body_path
    found = {"path": path, "digest": req.body_digest.hex(), "length": len(req.body)}
    if path is not None:
        with open(path, "rb") as file:
            found["on_disk"] = len(file.read())
    total = 0
    while True:
        length, data = req.body_read(100_000)
        if not length:
            break
        total += length
    found["read"] = total
    found["again"] = len(req.body)
    req.response(200, json.dumps(found))

def unnamed(req):
    req.response(200, req.body_digest.hex())

def raising(req):
    path = req.body_path
    raise ValueError(path)

async def waiting(req):
    kore.log(kore.LOG_INFO, f"waiting with {req.body_path}")
    await kore.suspend(1_000_000)

kept = []

def keep(req):
    req.populate_multi()
    kept[:] = [req.file_lookup("file"), req.file_lookup("other")]
    read = [[file.read(1_000_000_000)[1][-5:].decode(), file.size] for file in kept]
    links = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{entry}"))
        except OSError:
            pass
    found = [sum("/bodies/" in link for link in links), os.path.getsize(req.body_path), len(req.argument("text")), read]
    req.response(200, json.dumps(found))

def later(req):
    try:
        kept.pop().read(1)
    except ValueError as failure:
        req.response(200, str(failure))

def closing(req):
    # Which of our files are still open right after they were let go.
    kept = []
    def open_after(name, descriptor):
        try:
            os.fstat(descriptor)
        except OSError:
            return
        kept.append(name)
    stored = unnamed("bodies")
    descriptor = stored.descriptor
    stored.close()
    open_after("body", descriptor)
    root = Root(".")
    descriptor = root.open(b"log")
    file = File(b"log", os.dup(descriptor), stamped(os.fstat(descriptor))._replace(size=10**6), "")
    descriptor = file.descriptor
    del file
    open_after("file", descriptor)
    descriptor = root._descriptor
    root.close()
    open_after("root", descriptor)
    req.response(200, " ".join(kept))

def rss(req):
    with open("/proc/self/statm") as statm:
        req.response(200, str(int(statm.read().split()[1]) * 4096))

def form(req):
    req.populate_post()
    req.response(200, str(len(req.argument("text") or "")))
"""

CONF = """
http_body_max 2000000000
http_body_disk_offload 65536
http_body_disk_path bodies
validator v_any regex .
domain * {
    static /upload upload
    static /alias alias
    static /body body
    static /unnamed unnamed
    static /raising raising
    static /waiting waiting
    static /rss rss
    static /closing closing
    static /keep keep
    static /later later
    static /form form
    params post /upload {
        validate text v_any
    }
    params post /keep {
        validate text v_any
    }
    params post /form {
        validate text v_any
    }
}
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_of(tmp_path_factory.mktemp("uploads"), CONF, app=APP, workers=1, tracebacks=True) as running:
        yield running


def left(up: Server) -> list[str]:
    return os.listdir(up.directory / "bodies")


def open_bodies(up: Server) -> int:
    """How many files of bodies the worker holds open."""
    (worker,) = up.workers
    return sum("/bodies/" in link for link in opened(worker))


def nothing_is_left(up: Server) -> None:
    until(lambda: not left(up) and not open_bodies(up), lambda: f"no bodies: {left(up)}, {open_bodies(up)} open")


def multipart(*parts: bytes, boundary: str = "xyz") -> tuple[bytes, dict[str, str]]:
    body = b"".join(b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in parts) + f"--{boundary}--\r\n".encode()
    return body, {"content-type": f'multipart/form-data; boundary="{boundary}"; charset=utf-8'}


def part(name: str, data: bytes, filename: str | None = None) -> bytes:
    named = f'; filename="{filename}"' if filename is not None else ""
    return f'Content-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + data


@pytest.mark.parametrize("size", [10, 60_000, 300_000])
def test_fields_and_files(up: Server, size: int) -> None:
    body, headers = multipart(
        part("text", b"some text"),
        part("undeclared", b"dropped"),
        part("file", b"x" * size, "../../etc/x.txt"),
        part("file", b"second", "second.txt"),
        part("other", b"", ""),
        part("empty", b"", "empty.txt"),
    )
    found = json.loads(up.get("/upload", "POST", body=body, headers=headers).body)
    assert found == {
        "file": ["file", "x.txt", 3, "xxx", size - 3, 0],
        "empty": ["empty", "empty.txt", 0, "", 0, 0],
        "text": "some text",
        "undeclared": None,
    }
    assert up.get("/alias", "POST", body=body, headers=headers).text == str(size)
    nothing_is_left(up)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"--xyz\r\n" + part("file", b"abc", "a") + b"\r\n", "multipart/form-data; boundary=xyz", 400),
        (b"--abc\r\n" + part("file", b"abc", "a") + b"\r\n--abc--\r\n", "multipart/form-data; boundary=xyz", 400),
        (b"", "multipart/form-data; boundary=xyz", 400),
        (b"whatever", "multipart/form-data", 400),
        (b"whatever", "multipart/form-data; boundary=" + "x" * 200, 400),
        (b"--xyz\r\n" + b"a: b\r\n" * 50 + b"\r\n\r\n--xyz--\r\n", "multipart/form-data; boundary=xyz", 413),
        (b"--xyz\r\nContent-Disposition: " + b"x" * 10_000, "multipart/form-data; boundary=xyz", 413),
        (b"--xyz\r\n" + part("t", b"x" * 2_000_000) + b"\r\n--xyz--\r\n", "multipart/form-data; boundary=xyz", 413),
        ((b"--xyz\r\n" + part("t", b"x") + b"\r\n") * 2_000 + b"--xyz--\r\n", "multipart/form-data; boundary=xyz", 413),
        (b"text=a", "application/x-www-form-urlencoded", 200),
        (b"\xff\x00", "text/plain", 200),
    ],
)
def test_broken_forms_are_refused(up: Server, body: bytes, content_type: str, status: int) -> None:
    assert up.get("/upload", "POST", body=body, headers={"content-type": content_type}).status == status
    nothing_is_left(up)


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 1_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_on_disk(up: Server, size: int, chunked: bool) -> None:
    data = os.urandom(size)
    body = (data[at : at + 30_000] for at in range(0, size, 30_000)) if chunked else data
    found = json.loads(up.get("/body", "POST", body=body, encode_chunked=chunked, headers=coding(chunked)).body)
    assert found["digest"] == hashlib.sha256(data).hexdigest()
    assert found["length"] == found["again"] == size
    assert (found["path"] is not None) == (size > 65_536)
    assert found.get("on_disk", size) == size
    nothing_is_left(up)


def coding(chunked: bool) -> dict[str, str]:
    return {"transfer-encoding": "chunked"} if chunked else {}


def test_a_form_on_disk(up: Server) -> None:
    assert up.get("/form", "POST", body=b"text=" + b"x" * 100_000).text == "100000"
    assert up.get("/form", "POST", body=b"text=" + b"x" * 17_000_000).status == 413


def test_a_handler_that_raises_leaves_nothing(up: Server) -> None:
    assert up.get("/raising", "POST", body=b"x" * 100_000).status == 500
    nothing_is_left(up)


def begun(up: Server, path: str, length: int, sent: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", up.port), timeout=30)
    client.sendall(f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n".encode() + b"x" * sent)
    return client


def test_a_client_that_leaves_in_the_middle_leaves_nothing(up: Server) -> None:
    clients = [begun(up, "/body", 10_000_000, 1_000_000) for _ in range(5)]
    until(lambda: open_bodies(up) == 5, "the bodies to arrive")
    for client in clients:
        client.close()
    nothing_is_left(up)


def test_a_client_that_leaves_while_it_is_served_leaves_nothing(up: Server) -> None:
    client = begun(up, "/waiting", 100_000, 100_000)
    up.says(r"waiting with bodies/http_body\.")
    assert left(up)
    client.close()
    nothing_is_left(up)


def test_uploaded_files_stay_where_the_body_is(up: Server) -> None:
    """Written once; and gone with the request, as in Kore."""
    sizes = (9_000_001, 12_000_001)
    body, headers = multipart(
        part("file", b"x" * (sizes[0] - 5) + b"first", "a"),
        part("text", b"t" * 1_000_000),
        part("other", b"y" * (sizes[1] - 5) + b"other", "b"),
    )
    found = json.loads(up.get("/keep", "POST", body=body, headers=headers).body)
    assert found == [1, len(body), 1_000_000, [["first", sizes[0]], ["other", sizes[1]]]]
    nothing_is_left(up)
    assert up.get("/later").text.startswith("the request is over")


def test_files_are_closed_at_once(up: Server) -> None:
    """Not at a later turn of the hub, as the patched os.close does with what is no regular file."""
    assert up.get("/closing").text == ""


def test_large_uploads_stay_out_of_memory(up: Server, tmp_path: Path) -> None:
    """128 MiB here; the bench does 1 GiB. Memory is bounded, so the size proves nothing more."""
    up.get("/body", "POST", body=b"x" * 100_000)
    before = int(up.get("/rss").text)
    file = tmp_path / "large"
    with open(file, "wb") as large:
        large.truncate(128 * 1024 * 1024)
    url = f"http://127.0.0.1:{up.port}"
    command = ["curl", "-sS", "--fail", "-m", "60", "-H", "expect:"]
    plain = subprocess.run([*command, "--data-binary", f"@{file}", f"{url}/unnamed"], capture_output=True, check=True)
    with open(file, "rb") as large:
        assert plain.stdout.decode() == hashlib.file_digest(large, "sha256").hexdigest()
    form = subprocess.run([*command, "-F", f"file=@{file}", f"{url}/alias"], capture_output=True, check=True)
    assert form.stdout == str(128 * 1024 * 1024).encode()
    assert int(up.get("/rss").text) - before < 64 * 1024 * 1024
    nothing_is_left(up)


HOOKS = """
import kore

freed = []
seen = []

def headers(req, *groups):
    seen.append(f"headers {req.path} {len(groups)}")
    if req.request_header("x-veto"):
        req.response(403, b"vetoed")

async def chunk(req, data):
    await kore.suspend(1)
    req.total = getattr(req, "total", 0) + len(data)
    req.most = max(getattr(req, "most", 0), len(data))
    if req.request_header("x-raise"):
        raise ValueError("in a hook")
    return None if req.request_header("x-stop") else True

def free(req):
    freed.append(f"{req.path}:{getattr(req, 'total', 0)}")

def page(req, *groups):
    req.response(200, f"{req.total} {len(req.body)} {groups}")

def plain(req):
    req.response(200, f"{len(req.body)} {' '.join(seen)}")

def tell(req):
    req.response(200, " ".join(freed))
"""

HOOKS_CONF = """
http_body_max 100000000
domain * {
    route ^/hooked/([a-z]+)$ {
        handler page
        on_headers headers
        on_body_chunk chunk
        on_free free
    }
    route /headers {
        handler plain
        on_headers headers
        on_free free
    }
    route /tell {
        handler tell
    }
}
"""


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_of(tmp_path_factory.mktemp("hooks"), HOOKS_CONF, app=HOOKS, workers=1, tracebacks=True) as running:
        yield running


def test_hooks_see_every_byte_once(hooked: Server) -> None:
    assert hooked.get("/hooked/a", "POST", body=b"x" * 5_000_000).text == "5000000 0 ('a',)"
    chunks = (b"y" * 10_000 for _ in range(20))
    answer = hooked.get("/hooked/b", "POST", body=chunks, encode_chunked=True, headers=coding(True))
    assert answer.text == "200000 0 ('b',)"
    until(lambda: "/hooked/b:200000" in hooked.get("/tell").text, "on_free")
    assert hooked.get("/headers", "POST", body=b"abc").text.startswith("3 headers /hooked/a 1")


def test_hooks_run_for_requests_without_a_body(hooked: Server) -> None:
    assert "headers /headers 0" in hooked.get("/headers", "DELETE").text


def test_on_headers_may_answer_before_the_body_comes(hooked: Server) -> None:
    with socket.create_connection(("127.0.0.1", hooked.port), timeout=30) as client:
        head = b"POST /hooked/veto HTTP/1.1\r\nhost: a\r\nx-veto: 1\r\nexpect:100-continue\r\ncontent-length: 9\r\n\r\n"
        client.sendall(head)
        answer = everything(client)
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"connection: close" in answer
    assert answer.endswith(b"vetoed")
    with socket.create_connection(("127.0.0.1", hooked.port), timeout=30) as client:
        client.sendall(b"POST /hooked/go HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"abcd")
        assert b"4 0 ('go',)" in client.recv(1000)


def test_a_hook_that_does_not_want_more_ends_the_request(hooked: Server) -> None:
    for header in ("x-stop", "x-raise"):
        client = socket.create_connection(("127.0.0.1", hooked.port), timeout=30)
        with client:
            head = f"POST /hooked/stop HTTP/1.1\r\nhost: a\r\n{header}: 1\r\ncontent-length: 9\r\n\r\n"
            client.sendall(head.encode() + b"abc")
            assert everything(client).startswith(b"HTTP/1.1 500")
    hooked.says("on_body_chunk for /hooked/stop did not return True: the client gets 500")


def test_on_free_runs_for_a_client_that_left(hooked: Server) -> None:
    client = begun(hooked, "/hooked/gone", 1_000_000, 100_000)
    client.close()
    until(lambda: "/hooked/gone:" in hooked.get("/tell").text, lambda: f"on_free: {hooked.get('/tell').text}")


def test_a_pipelined_request_behind_a_hooked_one(hooked: Server) -> None:
    with socket.create_connection(("127.0.0.1", hooked.port), timeout=30) as client:
        client.sendall(
            b"POST /hooked/one HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"
            b"POST /hooked/two HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nde"
            b"POST /hooked/three HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 4\r\n\r\n"
        )
        until(lambda: "/hooked/two:2" in hooked.get("/tell").text, "the first two")
        client.sendall(b"fghi")
        answers = everything(client)
    for size, name in ((3, b"one"), (2, b"two"), (4, b"three")):
        assert answers.count(b"%d 0 ('%b',)" % (size, name)) == 1


def everything(client: socket.socket) -> bytes:
    data = b""
    while piece := client.recv(65536):
        data += piece
    return data
