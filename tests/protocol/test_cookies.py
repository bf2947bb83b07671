"""The Cookie header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkore.protocol.cookies import parse_cookies


@pytest.mark.parametrize(
    ("header", "cookies"),
    [
        (b"", []),
        (b"a=1", [("a", "1")]),
        (b"a=1; b=2", [("a", "1"), ("b", "2")]),
        (b"a=1;b=2;", [("a", "1"), ("b", "2")]),
        (b" a=1 ;\tb=2 ", [("a", "1"), ("b", "2")]),
        (b"a=x=y==", [("a", "x=y==")]),
        (b'a="x y"; b="', [("a", '"x y"'), ("b", '"')]),
        (b"a=%41+b", [("a", "%41+b")]),
        (b"a=; b; =c; d=1", [("d", "1")]),
        (b"a=1; a=2; A=3", [("a", "1"), ("a", "2"), ("A", "3")]),
        (b"$Version=1; a=1", [("$Version", "1"), ("a", "1")]),
        (b"a=1, b=2", [("a", "1, b=2")]),
        (b"a=\xc3\xa4", [("a", "ä")]),
        (b"a=\xe4", [("a", "ä")]),
        (b"\xff\xfe=\x80", [("ÿþ", "\x80")]),
    ],
)
def test_cookies(header, cookies):
    assert parse_cookies([header], 100) == cookies


def test_all_headers_count():
    assert parse_cookies([b"a=1", b"b=2; c=3"], 100) == [("a", "1"), ("b", "2"), ("c", "3")]


def test_number_of_cookies_is_bounded():
    many = b"; ".join(b"c%d=v" % number for number in range(500))
    assert parse_cookies([many, many], 100) == [(f"c{number}", "v") for number in range(100)]
    assert parse_cookies([b"a=1"], 0) == []


@given(st.lists(st.binary()), st.integers(0, 5))
def test_no_bytes_raise(headers, maximum):
    cookies = parse_cookies(headers, maximum)
    assert len(cookies) <= maximum
    assert all(name and value for name, value in cookies)
