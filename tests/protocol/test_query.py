"""Query strings and urlencoded forms."""

from __future__ import annotations

from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkore.errors import ProtocolError
from gkore.protocol.query import parse_form, parse_query, unescape

BOTH = [parse_query, parse_form]


@pytest.mark.parametrize("parse", BOTH)
@pytest.mark.parametrize(
    ("raw", "pairs"),
    [
        (b"", []),
        (b"a=1", [("a", "1")]),
        (b"a=1&b=2&c=3", [("a", "1"), ("b", "2"), ("c", "3")]),
        (b"a=1&a=2&A=3", [("a", "1"), ("a", "2"), ("A", "3")]),
        (b"a=b=c", [("a", "b=c")]),
        (b"token=YWJj==", [("token", "YWJj==")]),
        (b"a=&b=2", [("b", "2")]),
        (b"a&b=2", [("b", "2")]),
        (b"=&==&b=2", [("b", "2")]),
        (b"=a=b", [("a", "b")]),
        (b"%3da=b", [("=a", "b")]),
        (b"&&a=1&&&b=2&", [("a", "1"), ("b", "2")]),
        (b"a;b=1;c=2", [("a;b", "1;c=2")]),
        (b"a=b+c", [("a", "b c")]),
        (b"a+b=c", [("a b", "c")]),
        (b"a=b%20c", [("a", "b c")]),
        (b"a=b%2Bc", [("a", "b+c")]),
        (b"%61=%41", [("a", "A")]),
        (b"a=%2541", [("a", "%41")]),
        (b"a=%26b%3D1", [("a", "&b=1")]),
        (b"a=%C3%A4", [("a", "ä")]),
        (b"a=\xc3\xa4", [("a", "ä")]),
        (b"a=%c3%A4%F0%9F%98%80", [("a", "ä😀")]),
        (b"a=[b]&c[]='d'", [("a", "[b]"), ("c[]", "'d'")]),
    ],
)
def test_pairs(parse, raw, pairs):
    assert parse(raw, 100) == pairs


@pytest.mark.parametrize("parse", BOTH)
@pytest.mark.parametrize(
    "bad",
    [
        b"a=%",
        b"a=%4",
        b"a=%zz",
        b"a=%4g",
        b"a=%-1",
        b"a=% 1",
        b"a=%+1",
        b"a=x%",
        b"a=%%41",
        b"a=%00",
        b"a=x%00y",
        b"a=%1f",
        b"a=%7F",
        b"a=\x01",
        b"%00=x",
        b"%f=x",
        b"a=%FF",
        b"a=%C3",
        b"a=%C0%AF",
        b"a=%ED%A0%80",
        b"a=%F5%80%80%80",
        b"a=\xff",
    ],
)
def test_a_bad_pair_is_dropped_and_its_neighbours_are_kept(parse, bad):
    assert parse(b"x=1&" + bad + b"&y=2", 100) == [("x", "1"), ("y", "2")]


@pytest.mark.parametrize("escape", [b"%0D%0A", b"%0a", b"%09", b"\r\n", b"\t"])
def test_line_ends_and_tabs_are_for_bodies_only(escape):
    assert parse_query(b"a=x" + escape, 9) == []
    assert parse_form(b"a=x" + escape, 9) == [("a", "x" + unescape(escape).decode())]


@pytest.mark.parametrize("parse", BOTH)
def test_number_of_pairs_is_bounded(parse):
    many = b"&".join(b"p%d=v" % number for number in range(1000))
    assert len(parse(many, 1000)) == 1000
    assert len(parse(b"&&" + many.replace(b"&", b"&&") + b"&", 1000)) == 1000
    for more in (many + b"&x", many + b"&x=1", b"&".join([b"a=1"] * 10_000)):
        with pytest.raises(ProtocolError) as refusal:
            parse(more, 1000)
        assert refusal.value.status == 400


def test_a_body_of_separators_is_nothing():
    assert parse_form(b"&" * 1_000_000, 1000) == []


def test_unescape_leaves_plus_alone():
    assert unescape(b"/a+b%2Bc%2fd") == b"/a+b+c/d"
    assert unescape(b"/plain") == b"/plain"
    assert unescape(b"/%2") is None


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


@given(st.lists(st.tuples(TEXT, TEXT)), st.sampled_from([quote, quote_plus]))
def test_what_a_client_encodes_comes_back(pairs, encode):
    raw = "&".join(f"{encode(name, safe='')}={encode(value, safe='')}" for name, value in pairs)
    assert parse_query(raw.encode(), 1000) == pairs


@given(st.binary())
def test_no_bytes_raise_anything_else(raw):
    for parse in BOTH:
        for name, value in parse(raw, 1_000):
            assert name
            assert value
    unescape(raw)


@given(st.text(st.sampled_from("ab=&%+4\x00ä"), max_size=20))
def test_the_short_path_and_the_long_one_agree(text):
    raw = text.encode()
    assert parse_query(raw + b"&z=%41", 100) == [*parse_query(raw, 100), ("z", "A")]
