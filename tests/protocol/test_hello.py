"""The first message of a TLS client: whole, in pieces, in records of any size, and made to waste time."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkore.protocol.hello import ACME_PROTOCOL, HELLO_MAX, RECORD_HEAD, Hello, Incomplete, read_hello


def spoken(name: str = "one.test", *protocols: str) -> bytes:
    """The message of OpenSSL's client, without the head of its record."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if protocols:
        context.set_alpn_protocols(protocols)
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()[RECORD_HEAD:]


MESSAGE = spoken("One.Test", "acme-tls/1", "h2")
HELLO = Hello("one.test", (ACME_PROTOCOL, b"h2"))


def records(message: bytes, *sizes: int) -> bytes:
    """The message in records of these sizes, over and over."""
    made, at, turn = b"", 0, 0
    while at < len(message):
        piece = message[at : at + sizes[turn % len(sizes)]]
        made += b"\x16\x03\x01" + len(piece).to_bytes(2) + piece
        at, turn = at + len(piece), turn + 1
    return made


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 600), min_size=1, max_size=5))
def test_however_it_is_cut_it_says_the_same_and_never_waits_for_too_much(sizes: list[int]) -> None:
    data = records(MESSAGE, *sizes)
    assert read_hello(data) == HELLO
    assert read_hello(data + b"more") == HELLO
    for end in range(len(data)):
        found = read_hello(data[:end])
        assert isinstance(found, Incomplete)
        assert end < found.size <= len(data)


def test_tiny_records_are_not_read_once_each() -> None:
    """Who waits for as many bytes as ``Incomplete`` says looks some dozens of times, at ten thousand records."""
    padded = MESSAGE[:1] + (10000).to_bytes(3) + MESSAGE[4:].ljust(10000, b"\0")
    data = records(padded, 1)
    assert len(data) < HELLO_MAX
    looks, size = 0, 0
    while isinstance(found := read_hello(data[:size]), Incomplete):
        looks, size = looks + 1, found.size
    assert found is not None
    assert looks < 100


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1", b"\x80\x2e\x01", b"\x16\x02\x00\x00\x05", b"\x16\x03\x01\xff\xff"])
def test_what_is_no_tls(data: bytes) -> None:
    assert read_hello(data) is None


@pytest.mark.parametrize(
    "data",
    [
        records(b"\x02" + MESSAGE[1:], 600),
        records(MESSAGE[:1] + b"\xff\xff\xff" + MESSAGE[4:], 100),
        records(MESSAGE[:1] + b"\x00\x00\x20" + MESSAGE[4:], 600),
        records(MESSAGE, 10)[:30] + b"GET / HTTP/1.1\r\n\r\n",
        records(MESSAGE[:1] + b"\x00\xff\xff" + MESSAGE[4:] * 200, 1)[:HELLO_MAX],
    ],
    ids=["another message", "sixteen megabytes", "cut short", "no record", "no end"],
)
def test_one_that_makes_no_sense_has_no_name(data: bytes) -> None:
    assert read_hello(data) == Hello()
