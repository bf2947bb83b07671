"""Preconditions and HTTP dates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkore.protocol.conditional import evaluate, format_date, make_etag, parse_date, range_applies

NOW = 1_750_000_000
MODIFIED = 784_111_777
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER, EARLIER = "Sun, 06 Nov 1994 08:49:38 GMT", "Sun, 06 Nov 1994 08:49:36 GMT"
TAG = '"a-1"'


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (DATE, MODIFIED),
        ("Sunday, 06-Nov-94 08:49:37 GMT", MODIFIED),
        ("Sun Nov  6 08:49:37 1994", MODIFIED),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Thu, 29 Feb 2024 12:00:00 GMT", 1709208000),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1483228800),
        ("Wednesday, 01-Jan-75 00:00:00 GMT", 3313526400),
        ("Thursday, 01-Jan-76 00:00:00 GMT", 189302400),
        ("Fri Dec 31 23:59:59 9999", 253402300799),
    ],
)
def test_dates(text, seconds):
    assert parse_date(text, NOW) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "sun, 06 nov 1994 08:49:37 gmt",
        "Xxx, 06 Nov 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 29 Feb 2023 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1969 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT\n",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
    ],
)
def test_what_is_no_date(text):
    assert parse_date(text, NOW) is None


@given(st.integers(0, 253402300799))
def test_dates_round_trip(seconds):
    assert parse_date(format_date(seconds), NOW) == seconds


@given(st.text())
def test_no_text_raises(text):
    parse_date(text, NOW)


def test_fractions_are_cut():
    assert format_date(MODIFIED + 0.9) == DATE


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, 200),
        ("GET", {"if-none-match": TAG}, 304),
        ("HEAD", {"if-none-match": TAG}, 304),
        ("PUT", {"if-none-match": TAG}, 412),
        ("GET", {"if-none-match": "W/" + TAG}, 304),
        ("GET", {"if-none-match": f'"b", {TAG}'}, 304),
        ("GET", {"if-none-match": f'"a,b" ,W/"c",{TAG}'}, 304),
        ("GET", {"if-none-match": "*"}, 304),
        ("PUT", {"if-none-match": "*"}, 412),
        ("GET", {"if-none-match": '"b"'}, 200),
        ("GET", {"if-none-match": "a-1"}, 200),
        ("GET", {"if-none-match": ""}, 200),
        ("GET", {"if-none-match": '"b"', "if-modified-since": DATE}, 200),
        ("GET", {"if-modified-since": DATE}, 304),
        ("GET", {"if-modified-since": LATER}, 304),
        ("GET", {"if-modified-since": EARLIER}, 200),
        ("GET", {"if-modified-since": "yesterday"}, 200),
        ("POST", {"if-modified-since": DATE}, 200),
        ("GET", {"if-match": TAG}, 200),
        ("GET", {"if-match": "*"}, 200),
        ("GET", {"if-match": f'"b", {TAG}'}, 200),
        ("GET", {"if-match": "W/" + TAG}, 412),
        ("PUT", {"if-match": '"b"'}, 412),
        ("GET", {"if-match": TAG, "if-unmodified-since": EARLIER}, 200),
        ("GET", {"if-match": TAG, "if-none-match": TAG}, 304),
        ("GET", {"if-unmodified-since": DATE}, 200),
        ("GET", {"if-unmodified-since": LATER}, 200),
        ("GET", {"if-unmodified-since": EARLIER}, 412),
        ("GET", {"if-unmodified-since": "tomorrow"}, 200),
        ("GET", {"if-unmodified-since": EARLIER, "if-none-match": TAG}, 412),
    ],
)
def test_preconditions(method, headers, status):
    raw = {name.encode(): value.encode() for name, value in headers.items()}
    assert evaluate(method.encode(), raw, TAG, MODIFIED, NOW) == status


def test_a_weak_tag_never_matches_strongly():
    assert evaluate(b"GET", {b"if-match": b'W/"a"'}, 'W/"a"', MODIFIED, NOW) == 412
    assert evaluate(b"GET", {b"if-none-match": b'"a"'}, 'W/"a"', MODIFIED, NOW) == 304


@pytest.mark.parametrize(
    ("condition", "applies"),
    [
        (None, True),
        (TAG, True),
        ("W/" + TAG, False),
        ('"b"', False),
        (DATE, True),
        (LATER, False),
        (EARLIER, False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_if_range(condition, applies):
    headers = {} if condition is None else {b"if-range": condition.encode()}
    assert range_applies(headers, TAG, MODIFIED, NOW) is applies


def test_if_range_with_a_date_needs_an_old_file():
    headers = {b"if-range": DATE.encode()}
    assert not range_applies(headers, TAG, MODIFIED, MODIFIED + 0.5)
    assert range_applies(headers, TAG, MODIFIED, MODIFIED + 1)


def test_etags_differ_with_size_and_time():
    tags = {make_etag(size, time) for size in (1, 17) for time in (1, 17)}
    assert len(tags) == 4
    assert all(evaluate(b"GET", {b"if-none-match": tag.encode()}, tag, 0, NOW) == 304 for tag in tags)
