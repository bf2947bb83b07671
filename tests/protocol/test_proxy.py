"""The PROXY protocol."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkore.errors import ProtocolError
from gkore.protocol.proxy import V2_MAX, Proxied, parse_proxy

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
FOUR = socket.inet_pton(socket.AF_INET, "203.0.113.9") + socket.inet_pton(socket.AF_INET, "192.0.2.1")
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::9") + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
PORTS = struct.pack("!HH", 4711, 443)


def v2(command: int, family: int, payload: bytes, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(payload) if length is None else length) + payload


GOOD = [
    (b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n", ("203.0.113.9", 4711, "192.0.2.1", 443)),
    (b"PROXY TCP6 2001:db8::9 2001:db8::1 0 65535\r\n", ("2001:db8::9", 0, "2001:db8::1", 65535)),
    (b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n", ("ffff:" * 7 + "ffff", 65535) * 2),
    (b"PROXY UNKNOWN\r\n", ()),
    (b"PROXY UNKNOWN anything at all\r\n", ()),
    (v2(0x21, 0x11, FOUR + PORTS), ("203.0.113.9", 4711, "192.0.2.1", 443)),
    (v2(0x21, 0x21, SIX + PORTS), ("2001:db8::9", 4711, "2001:db8::1", 443)),
    (v2(0x21, 0x11, FOUR + PORTS + b"\x02\x00\x09localhost"), ("203.0.113.9", 4711, "192.0.2.1", 443)),
    (v2(0x20, 0x00, b""), ()),
    (v2(0x20, 0x11, FOUR + PORTS), ()),
    (v2(0x21, 0x31, b"/a".ljust(216, b"\0")), ()),
    (v2(0x21, 0x12, FOUR + PORTS), ()),
    (v2(0x21, 0x00, b"x" * (V2_MAX - 16)), ()),
]


@pytest.mark.parametrize(("header", "addresses"), GOOD)
def test_headers(header, addresses):
    expected = Proxied(len(header), *addresses)
    assert parse_proxy(header) == expected
    assert parse_proxy(header + b"GET / HTTP/1.1\r\n\r\n") == expected
    for size in range(len(header)):
        assert parse_proxy(header[:size]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"POST",
        b"PROXYTCP4",
        b"\r\n\r\nGET",
        b"\x16\x03\x01",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 4711\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443 1\r\n",
        b"PROXY TCP4  203.0.113.9 192.0.2.1 4711 443\r\n",
        b"PROXY TCP4 203.0.113.999 192.0.2.1 4711 443\r\n",
        b"PROXY TCP4 2001:db8::9 2001:db8::1 4711 443\r\n",
        b"PROXY TCP6 203.0.113.9 192.0.2.1 4711 443\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 65536 443\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 04711 443\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 -1 443\r\n",
        b"PROXY UDP4 203.0.113.9 192.0.2.1 4711 443\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY \r\n",
        b"PROXY UNKNOWN " + b"x" * 100,
        v2(0x11, 0x11, FOUR + PORTS),
        v2(0x22, 0x11, FOUR + PORTS),
        v2(0x31, 0x11, FOUR + PORTS),
        v2(0x21, 0x11, FOUR),
        v2(0x21, 0x21, FOUR + PORTS),
        v2(0x21, 0x11, b"", V2_MAX),
        v2(0x21, 0x11, b"", 65535),
    ],
)
def test_refused(data):
    with pytest.raises(ProtocolError) as refusal:
        parse_proxy(data)
    assert refusal.value.status == 400


@given(st.one_of(st.binary(), st.binary().map(SIGNATURE.__add__), st.binary().map(b"PROXY ".__add__)))
def test_no_bytes_raise_anything_else(data):
    with suppress(ProtocolError):
        parse_proxy(data)
