"""Accept-Encoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkore.protocol.negotiation import choose_coding

OFFERED = ("zstd", "br", "gzip")


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        (None, "identity"),
        ("", "identity"),
        ("gzip", "gzip"),
        ("GZip", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("deflate", "identity"),
        ("gzip;q=1.0, br;q=0.5", "gzip"),
        ("gzip ; q=0.8 ,\tbr; Q=0.9", "br"),
        ("gzip;q=0", "identity"),
        ("gzip;q=0.000, br;q=0.001", "br"),
        ("*", "zstd"),
        ("*;q=0", "identity"),
        ("*, zstd;q=0", "br"),
        ("zstd;q=0, *;q=0.1, gzip;q=0.2", "gzip"),
        ("identity", "identity"),
        ("identity;q=1, gzip;q=0.5", "identity"),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        ("identity;q=0", "identity"),
        ("gzip;q=2", "identity"),
        ("gzip;q=-1", "identity"),
        ("gzip;q=nan", "identity"),
        ("gzip;level=9", "identity"),
        ("gzip;;, br", "br"),
        (",,gzip,,", "gzip"),
        ("gzipx", "identity"),
        (", ".join(f"c{number}" for number in range(1000)) + ", gzip", "identity"),
    ],
)
def test_choice(header, coding):
    assert choose_coding(header, OFFERED) == coding


def test_nothing_offered():
    assert choose_coding("gzip, *", ()) == "identity"


@given(st.text())
def test_no_text_raises(header):
    assert choose_coding(header, OFFERED) in (*OFFERED, "identity")
