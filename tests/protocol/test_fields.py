"""What is remembered of header fields: blocks that come again, rows of many blocks, both within bounds."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkore.errors import ProtocolError
from gkore.protocol import fields as memory
from gkore.protocol.fields import keep, kept, read_fields
from gkore.protocol.head import Head
from gkore.protocol.line import known as lines
from gkore.protocol.request import Limits, RequestParser


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test begins with nothing remembered, and leaves nothing."""
    forget()
    yield
    forget()


def block(number: int) -> bytes:
    return b"Host: a.test\r\nReferer: /%d\r\n\r\n" % number


def test_a_block_is_kept_when_it_comes_again() -> None:
    for turn in range(2):
        assert kept(block(1)) is None, turn
        keep(block(1), read_fields(block(1)))
    found = kept(block(1))
    assert found is not None
    assert found.get(b"referer") == b"/1"


def learn(block: bytes) -> None:
    for _ in range(2):
        keep(block, read_fields(block))


def test_blocks_that_differ_in_their_cookie_are_one() -> None:
    first = b"Host: a.test\r\nCookie: session=1; theme=dark\r\nX: 1\r\nx: 2\r\nConnection: close\r\n\r\n"
    other = first.replace(b"session=1; theme=dark", b"\t session=2 ")
    learn(first)
    found, read = kept(other), read_fields(other)
    assert found is not None
    assert [*found] == [*read]
    assert found.get(b"cookie") == b"session=2"
    assert (found.count, found.host, found.closes, found.keeps, found.upgrade) == (5, b"a.test", True, False, b"")
    assert kept(first).get(b"cookie") == b"session=1; theme=dark"
    assert kept(first.replace(b"a.test", b"b.test")) is None


def test_nobody_is_given_the_cookie_of_another() -> None:
    with_one = b"Host: a.test\r\nCookie: session=secret\r\nAccept: */*\r\n\r\n"
    without = with_one.replace(b"Cookie: session=secret\r\n", b"")
    learn(with_one)
    assert kept(without) is None
    assert b"secret" not in str([*map(list, memory._crumbless.values())]).encode()
    learn(without)
    assert kept(without).get(b"cookie") is None
    assert kept(without).count == 2
    assert kept(with_one).count == 3


@pytest.mark.parametrize("second", [b"Cookie: b=2\r\n", b"COOKIE:b=2\r\n"])
def test_two_cookie_fields_are_read_in_full(second: bytes) -> None:
    two = b"Host: a.test\r\nCookie: a=1\r\n" + second + b"\r\n"
    one = b"Host: a.test\r\nCookie: a=1\r\n\r\n"
    learn(two)
    assert kept(two) is None
    learn(one)
    assert kept(two) is None
    parser = RequestParser(Limits(), Head)
    for data in (one, two):
        parser.feed(b"GET / HTTP/1.1\r\n" + data)
    assert [head.fields.all(b"cookie") for head in parser.complete] == [[b"a=1"], [b"a=1", b"b=2"]]


def test_a_cookie_that_llhttp_refuses_is_refused_with_a_block_that_is_known() -> None:
    learn(b"Host: a.test\r\nCookie: a=1\r\n\r\n")
    for wrong in (b"a=\x00", b"a=\x7f", b"a=1\nX: 2", b"a=1\rX: 2", b"a=1\r\n folded"):
        parser = RequestParser(Limits(), Head)
        with pytest.raises(ProtocolError):
            parser.feed(b"GET / HTTP/1.1\r\nHost: a.test\r\nCookie: " + wrong + b"\r\n\r\n")


def test_blocks_that_come_once_push_out_nothing() -> None:
    parser = RequestParser(Limits(), Head)
    for _ in range(2):
        parser.feed(b"GET / HTTP/1.1\r\n" + block(0))
    for number in range(1, 5 * memory.SEEN_MAX):
        parser.feed(b"GET / HTTP/1.1\r\n" + block(number))
    assert [*memory._kept] == [block(0)]
    assert len(memory._met) <= memory.SEEN_MAX
    assert len(memory._rows) <= memory.ROWS_MAX


def test_large_blocks_and_rows_are_not_remembered() -> None:
    row = b"referer: " + b"x" * memory.ROW_BYTES_MAX
    read_fields(row + b"\r\n\r\n")
    assert row not in memory._rows
    large = b"host: a\r\n" + b"".join(b"x%d: %b\r\n" % (n, b"y" * 200) for n in range(11)) + b"\r\n"
    for _ in range(3):
        keep(large, read_fields(large))
    assert kept(large) is None


def test_a_remembered_row_means_the_same_in_every_block() -> None:
    first = read_fields(b"HOST:  a \t\r\nX: 1\r\n\r\n")
    again = read_fields(b"X: 1\r\nx: 2\r\nHOST:  a \t\r\n\r\n")
    assert (first.host, again.host) == (b"a", b"a")
    assert again.all(b"x") == [b"1", b"2"]
    assert [*again] == [(b"x", b"1"), (b"host", b"a"), (b"x", b"2")]
    assert (first.count, len(again)) == (2, 3)


@pytest.mark.parametrize(
    ("rows", "closes", "keeps", "upgrade"),
    [
        (b"connection: keep-alive\r\n", False, True, b""),
        (b"connection: keep-alive\r\nconnection: close\r\n", True, True, b""),
        (b"Connection: Keep-Alive, Upgrade\r\nUpgrade: WebSocket\r\n", False, True, b"websocket"),
        (b"connection: keep-alive-not\r\n", False, False, b""),
        (b"upgrade: websocket\r\n", False, False, b""),
        (b"", False, False, b""),
    ],
)
def test_what_the_connection_becomes(rows: bytes, closes: bool, keeps: bool, upgrade: bytes) -> None:
    for _ in range(2):  # read, then from remembered rows
        found = read_fields(rows + b"\r\n")
        assert (found.closes, found.keeps, found.upgrade) == (closes, keeps, upgrade)


def test_two_hosts_are_refused_whether_or_not_their_rows_are_known() -> None:
    for _ in range(2):
        with pytest.raises(ProtocolError, match="two Host fields"):
            read_fields(b"host: a\r\nHost: a\r\n\r\n")


def test_a_chunk_of_three_bytes_is_the_beginning_of_a_head() -> None:
    """Three is what a search that finds nothing, and the length of what it looks for, add up to."""
    parser = RequestParser(Limits(), Head)
    for piece in (b"GET", b" / HTTP/1.1\r\n" + block(1)):
        parser.feed(piece)
    assert [head.line.path for head in parser.complete] == ["/"]


ROWS = [
    b"Cookie: a=1",
    b"Cookie:  a=2; b ",
    b"cookie: a=3",
    b"Cookie: ",
    b"X-Cookie: Cookie: a=4",
    b"Accept: */*",
    b"accept:*/*",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Content-Length: 0",
    b"Upgrade: websocket",
]
TARGETS = [b"/", b"/?a=1", b"/?", b"/a?b?c", b"http://b.test?x", b"*?x", b"/a#b", b"/a?b#c"]
asked = st.builds(
    lambda target, rows, host, version: (
        b"GET %b HTTP/%b\r\n%b%b\r\n" % (target, version, host, b"".join(row + b"\r\n" for row in rows))
    ),
    st.sampled_from(TARGETS),
    st.lists(st.sampled_from(ROWS), max_size=4),
    st.sampled_from([b"Host: a.test\r\n", b"Host: b.test\r\n", b""]),
    st.sampled_from([b"1.1", b"1.0"]),
)


def forget() -> None:
    for table in (memory._kept, memory._crumbless, memory._met, memory._rows, lines):
        table.clear()


def reading(data: bytes) -> object:
    """What a new parser makes of ``data``."""
    parser = RequestParser(Limits(), Head)
    try:
        parser.feed(data)
    except ProtocolError as refusal:
        return refusal.status
    return [said(head) for head in parser.complete]


def said(head: Head) -> tuple[object, ...]:
    line, fields = head.line, head.fields
    # RFC 9110 5.3: the order of fields with different names is not significant.
    ordered = sorted(fields, key=itemgetter(0))
    about = (line.target, line.query, line.authority, head.keep_alive, head.upgrade, head.content)
    return (*about, fields.host, fields.closes, fields.keeps, fields.count, ordered)


@settings(max_examples=300)
@given(st.lists(asked, min_size=2, max_size=6), st.booleans())
def test_what_is_remembered_changes_no_request(requests: list[bytes], pipelined: bool) -> None:
    plain = []
    for data in requests:
        forget()
        plain.append(reading(data))
    forget()
    for _ in range(4):  # read, met, kept, known
        assert [reading(data) for data in requests] == plain
    if pipelined and all(isinstance(one, list) and one[0][3] for one in plain):
        assert reading(b"".join(requests)) == [head for one in plain for head in one]
