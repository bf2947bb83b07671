"""Static files: what is served and what is not, whatever the path says; conditions, ranges, siblings, downloads."""

from __future__ import annotations

import gzip
import http.client
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import DEADLINE, Answer, Server, until
from server import server as server_of

APP = """
def early(req):
    req.response(200, b"route")

def late(req):
    req.response(200, b"late")

def check(req, value):
    return value == "yes"
"""

CONF = """
http_media_type text/x-special special css
filemap_ext .html
validator v_check function check
authentication allowed {
    authentication_type header
    authentication_value x-allow
    authentication_validator v_check
}
domain * {
    route /f/early.txt early
    filemap /f/ files
    filemap /f/deep/ other
    filemap /private/ files allowed
    route /f/late.txt late
    static /index asset_serve_index_html
    static /style asset_serve_my_style_css
}
"""

LARGE = os.urandom(1_000_003)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("files")
    files = directory / "files"
    for name in ("files/sub", "files/empty", "files/.well-known", "files/.git", "files/a b", "other", "assets"):
        (directory / name).mkdir(parents=True)
    for name, content in {
        "files/index.html": b"<p>index</p>",
        "files/sub/index.html": b"<p>sub</p>",
        "files/page.html": b"<p>page</p>",
        "files/early.txt": b"file",
        "files/late.txt": b"file",
        "files/nothing.txt": b"",
        "files/data.unknown": b"?",
        "files/x.special": b"special",
        "files/x.css": b"css",
        "files/a b/c+d%25.txt": b"odd name",
        "files/ümlaut.txt": b"umlaut",
        "files/.hidden": b"hidden",
        "files/.git/config": b"hidden",
        "files/.well-known/security.txt": b"shown",
        "files/large.bin": LARGE,
        "files/text.txt": b"plain " * 1000,
        "files/text.txt.gz": gzip.compress(b"plain " * 1000),
        "files/text.txt.zst": b"not really zstd",
        "files/stale.txt": b"stale " * 100,
        "files/stale.txt.gz": gzip.compress(b"older"),
        "files-secret.txt": b"secret",
        "other/index.html": b"other index",
        "other/x.txt": b"other",
        "secret.txt": b"secret",
        "assets/index.html": b"asset",
        "assets/my-style.css": b"p {}",
    }.items():
        (directory / name).write_bytes(content)
    os.utime(files / "stale.txt.gz", (1, 1))
    os.utime(files / "x.css", (1_600_000_000, 1_600_000_000))
    (files / "inside").symlink_to("text.txt")
    (files / "outside").symlink_to("../secret.txt")
    (files / "absolute").symlink_to(directory / "secret.txt")
    (files / "folder").symlink_to("sub")
    (files / "up").symlink_to("..")
    (files / "loop").symlink_to("loop")
    os.mkfifo(files / "fifo")
    (files / "device").symlink_to("/dev/zero")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(files / "socket"))
    with server_of(directory, CONF, app=APP, workers=1) as running:
        yield running
    sock.close()


def get(up: Server, path: str, method: str = "GET", **headers: str) -> Answer:
    """As ``up.get``, with the path as it stands: no client tidies it up."""
    client = http.client.HTTPConnection("127.0.0.1", up.port, timeout=DEADLINE)
    client.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers.items():
        client.putheader(name.replace("_", "-"), value)
    client.endheaders()
    response = client.getresponse()
    try:
        return Answer(response.status, response.headers, response.read())
    finally:
        client.close()


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/f/", b"<p>index</p>", "text/html"),
        ("/f/index.html", b"<p>index</p>", "text/html"),
        ("/f/sub/", b"<p>sub</p>", "text/html"),
        ("/f/page", b"<p>page</p>", "text/html"),
        ("/f/nothing.txt", b"", "text/plain"),
        ("/f/data.unknown", b"?", None),
        ("/f/x.special", b"special", "text/x-special"),
        ("/f/x.css", b"css", "text/x-special"),
        ("/f/a%20b/c+d%2525.txt", b"odd name", "text/plain"),
        ("/f/%C3%BCmlaut.txt", b"umlaut", "text/plain"),
        ("/f/.well-known/security.txt", b"shown", "text/plain"),
        ("/f/inside", b"plain " * 1000, None),
        ("/f/folder/index.html", b"<p>sub</p>", "text/html"),
        ("/f/early.txt", b"route", None),
        ("/f/late.txt", b"file", "text/plain"),
        ("/f/deep/", b"other index", "text/html"),
        ("/f/deep/x.txt", b"other", "text/plain"),
        ("/f/large.bin", LARGE, None),
        ("/f/x.css?v=1", b"css", "text/x-special"),
        ("/index", b"asset", "text/html"),
        ("/style", b"p {}", "text/x-special"),
    ],
)
def test_files(up: Server, path: str, body: bytes, kind: str | None) -> None:
    answer = get(up, path)
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, body, kind)
    head = get(up, path, "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(body)))


@pytest.mark.parametrize(
    ("path", "method", "status", "location"),
    [
        ("/f/sub", "GET", 302, "/f/sub/"),
        ("/f/sub?a=b", "GET", 302, "/f/sub/?a=b"),
        ("/f", "GET", 404, None),
        ("/f/empty/", "GET", 404, None),
        ("/f/missing", "GET", 404, None),
        ("/f/page.html/", "GET", 404, None),
        ("/f/page.html/x", "GET", 404, None),
        ("/f/" + "x" * 300, "GET", 404, None),
        ("/f/" + "x/" * 2500, "GET", 404, None),
        ("/f/page", "POST", 405, None),
        ("/f/page", "DELETE", 405, None),
        ("/private/page", "GET", 403, None),
    ],
)
def test_what_is_no_file(up: Server, path: str, method: str, status: int, location: str | None) -> None:
    answer = get(up, path, method)
    assert (answer.status, answer.headers["location"]) == (status, location)


def test_authentication_of_a_filemap(up: Server) -> None:
    assert get(up, "/private/page", x_allow="yes").body == b"<p>page</p>"
    assert get(up, "/private/page", x_allow="no").status == 403


DOTS = [
    "..",
    ".%2e",
    "%2e.",
    "%2e%2e",
    "%2E%2E",
    "..;",
    "...",
    "%252e%252e",
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "．．",
]
SLASHES = ["/", "%2f", "%2F", "//", "%5c", "\\", "%252f", "%c0%af", "%ef%bc%8f"]
TRAVERSALS = [
    f"{dots}{slash}{target}" for dots in DOTS for slash in SLASHES for target in ("secret.txt", "files-secret.txt")
]
TRAVERSALS += [
    "sub/../../secret.txt",
    "sub/%2e%2e/%2e%2e/secret.txt",
    "./../secret.txt",
    "up/secret.txt",
    "outside",
    "absolute",
    "absolute%00.txt",
    "page.html%00",
    "%00",
    "fifo",
    "socket",
    "device",
    "loop",
    ".hidden",
    ".git/config",
    "%2ehidden",
    "%2egit/config",
    ".%67it/config",
    "sub/./index.html",
    "sub//index.html",
    "/etc/passwd",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "%2fetc/passwd",
    "file:///etc/passwd",
    "..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%zz",
    "%",
    "%2",
    "%0a",
    "%7f",
    "%ff%fe",
    "~root/.bashrc",
    "C:%5cwindows%5cwin.ini",
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_nothing_outside_is_reached(up: Server, path: str) -> None:
    with socket.create_connection(("127.0.0.1", up.port), timeout=DEADLINE) as client:
        client.sendall(f"GET /f/{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    status = int(answer.split()[1])
    assert status in (400, 403, 404), answer
    assert not re.search(rb"secret|hidden|root:", answer.partition(b"\r\n\r\n")[2])


def test_without_openat2_nothing_outside_is_reached_either(tmp_path: Path) -> None:
    from gkore.worker.beneath import Root

    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "sub" / "file").write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "root" / "out").symlink_to("../secret")
    (tmp_path / "root" / "up").symlink_to("..")
    root = Root(str(tmp_path / "root"))
    step = root._open_stepwise
    descriptor = step(b"sub/file")
    assert os.read(descriptor, 10) == b"inside"
    os.close(descriptor)
    os.close(step(b""))
    for name in (b"out", b"up/secret", b"up", b"sub/file/", b"missing"):
        with pytest.raises(OSError):
            os.close(step(name))
    root.close()


def test_conditions(up: Server) -> None:
    first = get(up, "/f/x.css")
    etag, modified = first.headers["etag"], first.headers["last-modified"]
    assert modified == "Sun, 13 Sep 2020 12:26:40 GMT"
    for headers, status in (
        ({"if_none_match": etag}, 304),
        ({"if_none_match": f'"other", W/{etag}'}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": '"other"'}, 200),
        ({"if_modified_since": modified}, 304),
        ({"if_modified_since": "Mon, 14 Sep 2020 00:00:00 GMT"}, 304),
        ({"if_modified_since": "Sat, 12 Sep 2020 00:00:00 GMT"}, 200),
        ({"if_modified_since": "nonsense"}, 200),
        ({"if_match": '"other"'}, 412),
        ({"if_match": etag}, 200),
        ({"if_unmodified_since": "Sat, 12 Sep 2020 00:00:00 GMT"}, 412),
        ({"if_none_match": '"other"', "if_modified_since": modified}, 200),
    ):
        answer = get(up, "/f/x.css", **headers)
        assert answer.status == status, headers
        assert answer.body == (b"css" if status == 200 else b"")
        assert answer.headers["etag"] == etag


@pytest.mark.parametrize(
    ("wanted", "status", "first", "last"),
    [
        ("bytes=0-0", 206, 0, 0),
        ("bytes=10-19", 206, 10, 19),
        ("bytes=1000000-", 206, 1_000_000, 1_000_002),
        ("bytes=-3", 206, 1_000_000, 1_000_002),
        ("bytes=999999-9999999", 206, 999_999, 1_000_002),
        ("bytes=1000003-", 416, 0, 0),
        ("bytes=5-4", 200, 0, 1_000_002),
        ("lines=1-2", 200, 0, 1_000_002),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 9000, 200)), 200, 0, 1_000_002),
    ],
)
def test_ranges(up: Server, wanted: str, status: int, first: int, last: int) -> None:
    answer = get(up, "/f/large.bin", range=wanted)
    assert answer.status == status
    if status == 416:
        assert (answer.headers["content-range"], answer.body) == ("bytes */1000003", b"")
        return
    assert answer.body == LARGE[first : last + 1]
    assert answer.headers["content-range"] == (f"bytes {first}-{last}/1000003" if status == 206 else None)


@pytest.mark.parametrize("path", ["/f/large.bin", "/f/text.txt"])
def test_several_ranges(up: Server, path: str) -> None:
    whole = LARGE if "large" in path else b"plain " * 1000
    answer = get(up, path, range="bytes=0-9,500-599,-5")
    assert answer.status == 206
    boundary = re.fullmatch(r"multipart/byteranges; boundary=(\w+)", answer.headers["content-type"])[1].encode()
    parts = answer.body.split(b"\r\n--" + boundary)[1:-1]
    assert [part.partition(b"\r\n\r\n")[2] for part in parts] == [whole[:10], whole[500:600], whole[-5:]]
    assert (b"Content-Type: text/plain" in parts[0]) == path.endswith("txt")


def test_if_range(up: Server) -> None:
    first = get(up, "/f/x.css")
    assert get(up, "/f/x.css", range="bytes=0-0", if_range=first.headers["etag"]).status == 206
    assert get(up, "/f/x.css", range="bytes=0-0", if_range=first.headers["last-modified"]).status == 206
    assert get(up, "/f/x.css", range="bytes=0-0", if_range='"other"').status == 200


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("gzip, zstd", "zstd"),
        ("zstd;q=0.1, gzip", "gzip"),
        ("br", None),
        ("", None),
        ("gzip;q=0", None),
    ],
)
def test_siblings(up: Server, accepted: str, coding: str | None) -> None:
    answer = get(up, "/f/text.txt", accept_encoding=accepted)
    assert (answer.headers["content-encoding"], answer.headers["vary"]) == (coding, "accept-encoding")
    assert answer.headers["content-type"] == "text/plain"
    if coding == "gzip":
        assert gzip.decompress(answer.body) == b"plain " * 1000
    tags = {get(up, "/f/text.txt", accept_encoding=one).headers["etag"] for one in ("gzip", "zstd", "br")}
    assert len(tags) == 3


def test_a_stale_sibling_is_passed_over(up: Server) -> None:
    answer = get(up, "/f/stale.txt", accept_encoding="gzip")
    assert (answer.headers["content-encoding"], answer.body) == (None, b"stale " * 100)


def test_a_changed_file_is_noticed(up: Server) -> None:
    path = up.directory / "files" / "changing.txt"
    path.write_bytes(b"old")
    assert get(up, "/f/changing.txt").body == b"old"
    path.write_bytes(b"newer")
    until(lambda: get(up, "/f/changing.txt").body == b"newer", "the change")
    path.unlink()
    until(lambda: get(up, "/f/changing.txt").status == 404, "the file to be gone")


def test_unreadable_files(up: Server) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = up.directory / "files" / "locked.txt"
    path.write_bytes(b"x")
    path.chmod(0)
    assert get(up, "/f/locked.txt").status == 403


def test_curl_resumes_a_download(up: Server, tmp_path: Path) -> None:
    part = tmp_path / "large.bin"
    part.write_bytes(LARGE[:300_000])
    url = f"http://127.0.0.1:{up.port}/f/large.bin"
    subprocess.run(["curl", "-sS", "--fail", "-m", "30", "-C", "-", "-o", part, url], check=True)
    assert part.read_bytes() == LARGE


def test_a_shrinking_file_is_not_taken_for_whole(up: Server) -> None:
    path = up.directory / "files" / "shrinking.bin"
    path.write_bytes(b"x" * 50_000_000)
    with socket.create_connection(("127.0.0.1", up.port), timeout=DEADLINE) as client:
        client.sendall(b"GET /f/shrinking.bin HTTP/1.1\r\nhost: a\r\n\r\n")
        head = client.recv(1000)
        assert b"content-length: 50000000" in head
        os.truncate(path, 1000)
        received = len(head)
        while piece := client.recv(1_000_000):
            received += len(piece)
    assert received < 50_000_000


def test_many_large_files_keep_few_descriptors(up: Server) -> None:
    for number in range(200):
        (up.directory / "files" / f"big{number}.bin").write_bytes(b"x" * 70_000)
        assert len(get(up, f"/f/big{number}.bin").body) == 70_000
    (worker,) = up.workers
    assert len(os.listdir(f"/proc/{worker}/fd")) < 170


def test_links_may_lead_out_where_that_is_allowed(server) -> None:
    directory = Path(__file__).parent
    conf = f"filemap_follow yes\ndomain * {{\nfilemap / {directory}/..\n}}\n"
    up = server(conf, workers=1)
    link = up.directory / "link"
    link.symlink_to(directory)
    other = server(f"filemap_follow yes\ndomain * {{\nfilemap / {up.directory}\n}}\n", workers=1)
    assert b"Static files" in get(other, "/link/test_files.py").body


def test_files_are_compressed_where_that_is_asked_for(server) -> None:
    up = server(f"http_compress yes\ndomain * {{\nfilemap / {Path(__file__).parent}\n}}\n", workers=1)
    plain = get(up, "/test_files.py", accept_encoding="gzip")  # of a type that nobody knows
    assert plain.headers["content-encoding"] is None
    assert plain.headers["etag"].startswith('"')
    conf = f"http_compress yes\nhttp_media_type text/x-python py\ndomain * {{\nfilemap / {Path(__file__).parent}\n}}\n"
    up = server(conf, workers=1)
    packed = get(up, "/test_files.py", accept_encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == Path(__file__).read_bytes()
    assert packed.headers["etag"].startswith('W/"')
    assert get(up, "/test_files.py", accept_encoding="gzip", if_none_match=packed.headers["etag"]).status == 304
    assert get(up, "/test_files.py", accept_encoding="gzip", range="bytes=0-4").body == b'"""St'
