"""The request parser beyond the corpus: what it hands on, its limits and its hooks."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkore.errors import ProtocolError
from gkore.protocol.head import Head
from gkore.protocol.line import known as lines
from gkore.protocol.line import read_line
from gkore.protocol.request import Limits, RequestParser

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def parser(**limits: int) -> RequestParser[Head]:
    return RequestParser(Limits(**limits), Head)


def fed(data: bytes, step: int = 0, **limits: int) -> list[Head]:
    reader = parser(**limits)
    for start in range(0, len(data), step or len(data)):
        reader.feed(data[start : start + (step or len(data))])
    assert reader.idle
    return reader.complete


def refusal_of(data: bytes, step: int = 0, **limits: int) -> int:
    with pytest.raises(ProtocolError) as refusal:
        fed(data, step, **limits)
    return refusal.value.status


def post(body: bytes, *fields: bytes) -> bytes:
    lines = [b"POST /p HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(body), *fields, b"", body]
    return b"\r\n".join(lines)


def chunked(*pieces: bytes) -> bytes:
    coded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"


@pytest.mark.parametrize("step", [0, 1, 7])
def test_request_line(step):
    (head,) = fed(b"PATCH /a%20b?c=d?e HTTP/1.1\r\nHost: a\r\n\r\n", step)
    line = head.line
    assert (line.verb, line.method, line.minor) == (b"PATCH", 128, 1)
    assert (line.target, line.path, line.query) == (b"/a%20b?c=d?e", "/a%20b", b"c=d?e")
    assert line.authority == b""


@pytest.mark.parametrize(
    ("target", "authority", "path", "query"),
    [
        (b"http://b.example:8080/p?q=1", b"b.example:8080", "/p", b"q=1"),
        (b"HTTPS://[::1]/", b"[::1]", "/", b""),
        (b"http://b", b"b", "/", b""),
        (b"http://b?q", b"b", "/", b"q"),
    ],
)
def test_absolute_form(target, authority, path, query):
    (head,) = fed(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (head.line.authority, head.line.path, head.line.query) == (authority, path, query)


@pytest.mark.parametrize("step", [0, 1])
def test_fields(step):
    (head,) = fed(b"GET / HTTP/1.1\r\nHost:a\r\nX-One: \t1 \r\nx-two:\r\nX-ONE: 2\r\nCookie: \xe4\r\n\r\n", step)
    fields = head.fields
    assert fields.host == fields.get(b"host") == b"a"
    assert (fields.get(b"x-one"), fields.get(b"x-two"), fields.get(b"x-three")) == (b"1", b"", None)
    assert fields.all(b"x-one") == [b"1", b"2"]
    assert fields.get(b"cookie") == b"\xe4"
    assert len(fields) == 5
    assert sorted(fields) == [
        (b"cookie", b"\xe4"),
        (b"host", b"a"),
        (b"x-one", b"1"),
        (b"x-one", b"2"),
        (b"x-two", b""),
    ]


def test_a_parser_serves_many_requests_and_is_idle_between_them():
    reader = parser()
    assert reader.idle
    for number in range(3):
        reader.feed(GET[:9])
        assert not reader.idle
        reader.feed(GET[9:])
        assert reader.idle
        assert len(reader.complete) == number + 1


def test_a_head_is_there_before_its_body():
    reader = parser()
    reader.feed(post(b"hello", b"Expect: 100-continue")[:-5])
    assert reader.head is not None
    assert reader.head.line.path == "/p"
    assert reader.head.expects_continue
    assert not reader.complete
    reader.feed(b"hel")
    assert not reader.idle
    reader.feed(b"lo" + GET)
    assert [head.content for head in reader.complete] == [b"hello", b""]
    assert reader.head is None


def test_a_sink_takes_the_body():
    taken: list[bytes] = []

    def admit(head: Head, owner: object) -> None:
        assert owner == "the connection"
        head.sink = taken.append

    for data in (post(b"hello"), chunked(b"he", b"llo")):
        for step in (0, 1):
            taken.clear()
            reader = RequestParser(Limits(), Head, admit)
            reader.owner = "the connection"
            for start in range(0, len(data), step or len(data)):
                reader.feed(data[start : start + (step or len(data))])
            assert b"".join(taken) == b"hello"
            assert [head.content for head in reader.complete] == [b""]


@pytest.mark.parametrize("limit", [4, 5])
@pytest.mark.parametrize("data", [post(b"hello"), chunked(b"hello"), chunked(b"h", b"e", b"llo")])
@pytest.mark.parametrize("step", [0, 1])
def test_admit_sets_the_limit(limit, data, step):
    def admit(head: Head, owner: object) -> None:
        head.limit = limit

    def feed() -> list[Head]:
        reader = RequestParser(Limits(body=1), Head, admit)
        for start in range(0, len(data), step or len(data)):
            reader.feed(data[start : start + (step or len(data))])
        return reader.complete

    if limit == 5:
        assert [head.content for head in feed()] == [b"hello"]
        return
    with pytest.raises(ProtocolError) as refusal:
        feed()
    assert refusal.value.status == 413


def test_admit_refuses_before_the_body():
    def admit(head: Head, owner: object) -> None:
        raise ProtocolError(405, "not here")

    reader = RequestParser(Limits(), Head, admit)
    reader.feed(GET)
    with pytest.raises(ProtocolError) as refusal:
        reader.feed(post(b"hello")[:-5])
    assert refusal.value.status == 405
    assert len(reader.complete) == 1


@pytest.mark.parametrize("step", [0, 1])
def test_limits_are_exact(step):
    assert len(fed(GET, step, header_bytes=len(GET))) == 1
    assert refusal_of(GET, step, header_bytes=len(GET) - 1) in (414, 431)
    assert len(fed(GET, step, headers=1)) == 1
    # A block of its own: one that another parser of this process accepted is not counted again.
    two = GET.replace(b"\r\n\r\n", b"\r\nX-Counted: %d\r\n\r\n" % step)
    assert refusal_of(two, step, headers=1) == 431
    assert len(fed(two, step, headers=2)) == 1
    assert len(fed(post(b"hello"), step, body=5)) == 1
    assert refusal_of(post(b"hello"), step, body=4) == 413
    assert len(fed(chunked(b"he", b"llo"), step, body=5)) == 1
    assert refusal_of(chunked(b"he", b"llo"), step, body=4) == 413


def test_a_large_body_in_large_pieces():
    body = bytes(range(256)) * 4000
    assert [head.content for head in fed(post(body), 65536)] == [body]
    assert [head.content for head in fed(chunked(body[:700_000], body[700_000:]), 65536)] == [body]


def test_what_follows_a_websocket_handshake_waits():
    handshake = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
    reader = parser()
    reader.feed(handshake + b"\x81\x05hello")
    (head,) = reader.complete
    assert head.upgrade
    assert reader.leftover == b"\x81\x05hello"


def test_a_handshake_that_is_not_taken_leaves_http():
    handshake = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    reader = parser()
    reader.feed(handshake + GET + GET[:5])
    reader.complete.clear()
    reader.resume()
    assert [head.line.path for head in reader.complete] == ["/"]
    assert reader.leftover == b""
    reader.feed(GET[5:])
    assert len(reader.complete) == 2


TOKEN = st.text("abcXYZ-09", min_size=1, max_size=8).map(str.encode)
VALUE = st.text("abc ,;=\t", max_size=12).map(lambda text: text.strip().encode())
BODY = st.binary(max_size=40)
REQUEST = st.builds(
    lambda fields, body, cuts: (fields, body, cuts),
    st.lists(st.tuples(TOKEN.map(b"X-".__add__), VALUE), max_size=5),
    BODY,
    st.one_of(st.none(), st.lists(st.integers(1, 9), max_size=5)),
)


def encode(fields: list[tuple[bytes, bytes]], body: bytes, cuts: list[int] | None) -> bytes:
    rows = [b"%s: %s\r\n" % field for field in fields]
    if cuts is None:
        return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%s\r\n%s" % (len(body), b"".join(rows), body)
    coded = b""
    for cut in [*cuts, len(body)]:
        piece, body = body[:cut], body[cut:]
        coded += b"%X\r\n%s\r\n" % (len(piece), piece) if piece else b""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n" + b"".join(rows) + b"\r\n"
    return head + coded + b"0\r\n\r\n"


@settings(max_examples=60)
@given(st.lists(REQUEST, min_size=1, max_size=4), st.integers(1, 50))
def test_any_pipeline_in_any_pieces(requests, step):
    heads = fed(b"".join(encode(*request) for request in requests), step)
    assert [head.content for head in heads] == [body for _, body, _ in requests]
    for head, (fields, _, _) in zip(heads, requests, strict=True):
        for name, _ in fields:
            assert head.fields.all(name.lower()) == [value for other, value in fields if other.lower() == name.lower()]


PIECES = st.sampled_from(
    [GET, GET[:9], post(b"hello"), chunked(b"he"), b"\r\n", b"\n", b"\0", b"5\r\n", b"Transfer-Encoding: chunked\r\n"]
)


@settings(max_examples=100)
@given(st.lists(st.one_of(PIECES, st.binary(max_size=20)), max_size=6), st.integers(1, 60))
def test_no_bytes_raise_anything_but_a_refusal(pieces, step):
    data = b"".join(pieces)
    outcomes = []
    for size in (step, len(data) or 1):
        reader = parser()
        with suppress(ProtocolError):
            for start in range(0, len(data), size):
                reader.feed(data[start : start + size])
        outcomes.append([(head.line.target, head.content) for head in reader.complete])
    assert outcomes[0] == outcomes[1]


@given(
    st.lists(st.sampled_from([GET, GET.replace(b"/", b"/b", 1), post(b"hello"), chunked(b"x")]), max_size=8), st.data()
)
def test_what_was_seen_reads_as_before(pieces: list[bytes], data: st.DataObject) -> None:
    """A parser that remembers whole requests hands on the same ones as one that reads every byte."""
    (known,) = fed(GET)
    stream = b"".join(pieces)
    cut = data.draw(st.integers(0, len(stream)))
    reader = parser()
    reader.seen = {GET: (known.line, known.fields, "remembered", True)}
    for part in (stream[:cut], stream[cut:]):
        reader.feed(part)
    plain = fed(stream) if stream else []
    assert reader.idle
    assert [(head.line.bare, head.content) for head in reader.complete] == [(h.line.bare, h.content) for h in plain]
    assert all(head.line.bare == known.line.bare for head in reader.complete if head.action)


@pytest.mark.parametrize(
    "target", ["/p?a=1", "/p?", "/p??", "/p?a=1?b=2&c", "http://b.example/p?x", "http://b.example?x", "/p?%23"]
)
def test_a_query_is_put_to_a_line_that_is_known_as_if_it_were_read(target: str) -> None:
    lines.clear()
    (first,) = fed(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    (again,) = fed(f"GET {target}&z HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    path = target.removeprefix("http://b.example") if target[0] == "h" else target
    path = path if path[0] == "/" else f"/{path}"
    assert (first.line.target, first.line.query) == (path.encode(), path.encode().partition(b"?")[2])
    assert (again.line.target, again.line.query) == (f"{path}&z".encode(), path.encode().partition(b"?")[2] + b"&z")
    assert [line.bare for line in (first.line, again.line)] == list(lines) * 2
    assert first.line.path == again.line.path == path.partition("?")[0]
    assert first.line.authority == again.line.authority == (b"b.example" if target[0] == "h" else b"")


@pytest.mark.parametrize("text", [b"OPTIONS *?x HTTP/1.1", b"GET /a?b c HTTP/1.1", b"GET ?b HTTP/1.1", b"GET /a?b"])
def test_a_query_behind_what_can_have_none(text: bytes) -> None:
    for _ in range(2):
        with pytest.raises(ProtocolError) as refused:
            read_line(text)
        assert refused.value.status == 400
        read_line(b"OPTIONS * HTTP/1.1")  # known from now on
        read_line(b"GET /a HTTP/1.1")


def test_only_whole_requests_of_always_one_meaning_may_be_remembered() -> None:
    with_query = GET.replace(b"/ ", b"/?a=1 ")
    for data in (GET, with_query, post(b"hello"), post(b""), chunked(b"x")):
        reader = parser()
        for _ in range(5):
            reader.feed(data)
        assert [head.chunk for head in reader.complete[3:]] == [GET if data == GET else b""] * 2


def test_what_was_seen_ends_with_a_close() -> None:
    (known,) = fed(GET)
    reader = parser()
    reader.seen = {GET: (known.line, known.fields, None, False)}
    reader.feed(GET + GET)
    assert not reader.complete[0].keep_alive
