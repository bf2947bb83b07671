"""Range requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkore.errors import ProtocolError
from gkore.protocol.ranges import RANGES_MAX, content_range, parse_range, part_heads


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        ("bytes=0-0", [(0, 0)]),
        ("bytes=0-499", [(0, 499)]),
        ("bytes=500-", [(500, 9999)]),
        ("bytes=-500", [(9500, 9999)]),
        ("bytes=9500-99999", [(9500, 9999)]),
        ("bytes=-99999", [(0, 9999)]),
        ("bytes=0-9999", [(0, 9999)]),
        ("Bytes=1-2", [(1, 2)]),
        ("bytes= 1-2", [(1, 2)]),
        ("bytes=0-0,-1", [(0, 0), (9999, 9999)]),
        ("bytes=0-0 , \t5000-5001", [(0, 0), (5000, 5001)]),
        ("bytes=,0-0,,5000-5000,", [(0, 0), (5000, 5000)]),
        ("bytes=5000-5001,0-1", [(5000, 5001), (0, 1)]),
        ("bytes=0-100,50-200", [(0, 200)]),
        ("bytes=500-600,0-520,9000-", [(0, 600), (9000, 9999)]),
        ("bytes=0-10,12-20", [(0, 20)]),
        ("bytes=0-0,99999-", [(0, 0)]),
        ("bytes=0-0,-0", [(0, 0)]),
    ],
)
def test_ranges(header, parts):
    assert parse_range(header, 10_000) == parts


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=2-1",
        "bytes=0-0,2-1",
        "bytes=a-b",
        "bytes=0x1-2",
        "bytes=1--2",
        "bytes=+1-2",
        "bytes=1-2;q=1",
        "bytes=1 - 2",
        "bytes=٣-٤",
        "lines=1-2",
        "bytes 1-2",
        "bytes=1-2\n",
        "bytes=" + "9" * 20 + "-",
        "bytes=" + ",".join(["0-0"] * (RANGES_MAX + 1)),
    ],
)
def test_no_range_request(header):
    assert parse_range(header, 10_000) is None


@pytest.mark.parametrize(
    ("header", "size"),
    [("bytes=10-", 10), ("bytes=10-20,30-", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-1", 0), ("bytes=0-0", 0)],
)
def test_unsatisfiable(header, size):
    with pytest.raises(ProtocolError) as refusal:
        parse_range(header, size)
    assert refusal.value.status == 416


def test_content_range():
    assert content_range((0, 499), 1234) == "bytes 0-499/1234"
    assert content_range(None, 1234) == "bytes */1234"


def test_part_heads_tell_the_whole_length():
    content = bytes(range(256))
    parts = [(0, 9), (250, 255)]
    heads, end, length = part_heads(parts, 256, "text/plain", "sep")
    body = b"".join(head + content[first : last + 1] for head, (first, last) in zip(heads, parts, strict=True)) + end
    assert len(body) == length
    assert body.count(b"\r\n--sep\r\nContent-Type: text/plain\r\nContent-Range: bytes ") == 2
    assert body.endswith(b"\r\n\r\n\xfa\xfb\xfc\xfd\xfe\xff\r\n--sep--\r\n")
    assert b"Content-Type" not in part_heads(parts, 256, "", "sep")[0][0]


SPEC = st.builds(lambda first, last: f"{first}-{last}", *[st.one_of(st.just(""), st.integers(0, 3000))] * 2)


@given(st.lists(SPEC, max_size=20), st.integers(0, 2000))
def test_ranges_lie_inside_and_apart_and_cover_what_was_asked(specs, size):
    try:
        parts = parse_range("bytes=" + ",".join(specs), size)
    except ProtocolError:
        return
    if parts is None:
        return
    assert sum(last - first + 1 for first, last in parts) <= size
    covered = {place for first, last in parts for place in range(first, last + 1)}
    for spec in specs:
        first, _, last = spec.partition("-")
        start = int(first) if first else max(0, size - int(last))
        assert covered >= set(range(start, min(size, int(last) + 1 if first and last else size)))


@given(st.text())
def test_no_text_raises_anything_else(header):
    for text in (header, "bytes=" + header):
        try:
            parse_range(text, 100)
        except ProtocolError:
            pass
