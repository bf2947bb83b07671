"""What is remembered of header fields: blocks that come again, rows of many blocks, both within bounds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gkore.errors import ProtocolError
from gkore.protocol import fields as memory
from gkore.protocol.fields import Fields, keep, kept
from gkore.protocol.head import Head
from gkore.protocol.request import Limits, RequestParser


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test begins with nothing remembered, and leaves nothing."""
    tables = (memory._kept, memory._crumbless, memory._met, memory._rows)
    for table in tables:
        table.clear()
    yield
    for table in tables:
        table.clear()


def block(number: int) -> bytes:
    return b"Host: a.test\r\nReferer: /%d\r\n\r\n" % number


def test_a_block_is_kept_when_it_comes_again() -> None:
    for turn in range(2):
        assert kept(block(1)) is None, turn
        keep(block(1), Fields(block(1)))
    found = kept(block(1))
    assert found is not None
    assert found.get(b"referer") == b"/1"


def learn(block: bytes) -> None:
    for _ in range(2):
        keep(block, Fields(block))


def test_blocks_that_differ_in_their_cookie_are_one() -> None:
    first = b"Host: a.test\r\nCookie: session=1; theme=dark\r\nX: 1\r\nx: 2\r\nConnection: close\r\n\r\n"
    other = first.replace(b"session=1; theme=dark", b"\t session=2 ")
    learn(first)
    found, read = kept(other), Fields(other)
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
    Fields(row + b"\r\n\r\n")
    assert row not in memory._rows
    large = b"host: a\r\n" + b"".join(b"x%d: %b\r\n" % (n, b"y" * 200) for n in range(11)) + b"\r\n"
    for _ in range(3):
        keep(large, Fields(large))
    assert kept(large) is None


def test_a_remembered_row_means_the_same_in_every_block() -> None:
    first = Fields(b"HOST:  a \t\r\nX: 1\r\n\r\n")
    again = Fields(b"X: 1\r\nx: 2\r\nHOST:  a \t\r\n\r\n")
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
        found = Fields(rows + b"\r\n")
        assert (found.closes, found.keeps, found.upgrade) == (closes, keeps, upgrade)


def test_two_hosts_are_refused_whether_or_not_their_rows_are_known() -> None:
    for _ in range(2):
        with pytest.raises(ProtocolError, match="two Host fields"):
            Fields(b"host: a\r\nHost: a\r\n\r\n")


def test_a_chunk_of_three_bytes_is_the_beginning_of_a_head() -> None:
    """Three is what a search that finds nothing, and the length of what it looks for, add up to."""
    parser = RequestParser(Limits(), Head)
    for piece in (b"GET", b" / HTTP/1.1\r\n" + block(1)):
        parser.feed(piece)
    assert [head.line.path for head in parser.complete] == ["/"]
