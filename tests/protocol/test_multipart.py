"""``multipart/form-data`` bodies, whole, byte by byte and in any other pieces."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkore.errors import ProtocolError
from gkore.protocol.multipart import (
    BOUNDS,
    SEARCH,
    SEARCH_FIRST,
    Bounds,
    Field,
    File,
    FileEnd,
    FormParser,
    Span,
    find_parts,
)

TYPE = "multipart/form-data; boundary=XX"
END = b"--XX--\r\n"


def part(disposition: bytes, content: bytes, *more: bytes) -> bytes:
    lines = [b"--XX", b"Content-Disposition: form-data; " + disposition, *more, b"", content]
    return b"\r\n".join(lines) + b"\r\n"


def events_of(body: bytes, *, content_type: str = TYPE, bounds: Bounds = BOUNDS, step: int = 0) -> list:
    """Everything that comes out of ``body``, chunks of one file joined; found in the whole body it must be the same."""
    assert outcome(lambda: found_in(body, content_type, bounds)) == outcome(
        lambda: fed_in_steps(body, content_type, bounds, step)
    )
    return fed_in_steps(body, content_type, bounds, step)


def outcome(way: Callable[[], list]) -> list | int:
    try:
        return way()
    except ProtocolError as refusal:
        return refusal.status


def found_in(body: bytes, content_type: str = TYPE, bounds: Bounds = BOUNDS) -> list:
    events: list = []
    for part in find_parts(FormParser(content_type, bounds), lambda offset, length: body[offset : offset + length]):
        if isinstance(part, Span):
            content = body[part.start : part.end]
            events += [part.file, content, FileEnd.END] if content else [part.file, FileEnd.END]
        else:
            events.append(part)
    return events


def fed_in_steps(body: bytes, content_type: str, bounds: Bounds, step: int) -> list:
    parser = FormParser(content_type, bounds)
    events: list = []
    for start in range(0, len(body), step or len(body) or 1):
        for event in parser.feed(body[start : start + (step or len(body))]):
            if isinstance(event, bytes) and events and isinstance(events[-1], bytes):
                events[-1] += event
            else:
                events.append(event)
    parser.close()
    return events


def refusal_of(body: bytes, **how) -> int:
    with pytest.raises(ProtocolError) as refusal:
        events_of(body, **how)
    return refusal.value.status


FORM = (
    part(b'name="who"', b"Alice")
    + part(b'name="doc"; filename="a.txt"', b"line\r\n--X\r\n-", b"Content-Type: Text/Plain; charset=x")
    + part(b'name="empty"', b"")
    + part(b'name="nothing"; filename=""', b"", b"Content-Type: application/octet-stream")
    + part(b'name="hollow"; filename="h"', b"")
    + part(b'name="who"', "Bob ä".encode())
    + END
)
FORM_EVENTS = [
    Field("who", "Alice"),
    File("doc", "a.txt", "text/plain"),
    b"line\r\n--X\r\n-",
    FileEnd.END,
    File("hollow", "h", ""),
    FileEnd.END,
    Field("who", "Bob ä"),
]


@pytest.mark.parametrize("step", [0, 1, 2, 3, 7, 64])
def test_fields_and_files(step):
    assert events_of(FORM, step=step) == FORM_EVENTS


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/form-data; boundary="XX"',
        "multipart/form-data; charset=utf-8; boundary=XX",
        "Multipart/Form-Data;  Boundary=XX; charset=UTF-8",
        'multipart/form-data;boundary="XX";charset="utf-8"',
    ],
)
def test_spellings_of_the_content_type(content_type):
    assert events_of(FORM, content_type=content_type) == FORM_EVENTS


@pytest.mark.parametrize("boundary", ["a b", "-", "=_'()+,./:?", "x" * 70])
def test_boundaries(boundary):
    body = part(b'name="a"', b"1").replace(b"XX", boundary.encode()) + f"--{boundary}--".encode()
    for step in (0, 1):
        assert events_of(body, content_type=f'multipart/form-data; boundary="{boundary}"', step=step) == [
            Field("a", "1")
        ]


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        'multipart/form-data; boundary="a "',
        'multipart/form-data; boundary="a\r\nb"',
        "multipart/form-data; boundary=" + "x" * 71,
        "multipart/mixed; boundary=XX",
        "multipart/form-data; boundary=\xe4",
    ],
)
def test_no_form_without_a_boundary(content_type):
    with pytest.raises(ProtocolError) as refusal:
        FormParser(content_type)
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    ("disposition", "names"),
    [
        (b'filename="a.txt"; name="n"', ("n", "a.txt")),
        (b'name=n; filename="a.txt"', ("n", "a.txt")),
        (b'name="n"; filename="../../etc/passwd"', ("n", "passwd")),
        (b'name="n"; filename="C:\\\\dir\\\\a.txt"', ("n", "a.txt")),
        (b'name="n"; filename="/abs/a.txt"', ("n", "a.txt")),
        (b'name="n"; filename="a:b;c.txt"', ("n", "a:b;c.txt")),
        (b'name="n"; filename="q%22q"', ("n", 'q"q')),
        (b'name="n"; filename="\xc3\xa4.txt"', ("n", "ä.txt")),
        (b'name="%22"; filename="a"', ('"', "a")),
    ],
)
def test_names_of_files(disposition, names):
    body = part(disposition, b"x") + END
    assert events_of(body) == [File(*names, ""), b"x", FileEnd.END]


@pytest.mark.parametrize(
    "disposition",
    [
        b'name=""',
        b'filename="a"',
        b'name="a\x00b"',
        b'name="a%0D%0Ab"',
        b'name="n"; filename="a\x00.txt"',
        b'name="n"; filename=".."',
        b'name="n"; filename="a/"',
        b'name="n"; filename=""',
    ],
)
def test_skipped_parts(disposition):
    body = part(disposition, b"secret") + part(b'name="next"', b"1") + END
    for step in (0, 1):
        assert events_of(body, step=step) == [Field("next", "1")]


@pytest.mark.parametrize(
    ("content", "charset", "value"),
    [
        (b"\xc3\xa4", b"", "ä"),
        (b"\xe4", b"iso-8859-1", "ä"),
        (b"\xe4", b"Windows-1252", "ä"),
        (b"\xe4", b"", None),
        (b"\xe4", b"us-ascii", None),
        (b"a", b"punycode", None),
        (b"a", b"unicode_escape", None),
        (b"a", b"zlib", None),
        (b"a", b"iso-8859-99", None),
        (b"a", b"no-such", None),
    ],
)
def test_charsets_of_fields(content, charset, value):
    extra = [b"Content-Type: text/plain; charset=" + charset] if charset else []
    body = part(b'name="a"', content, *extra) + END
    assert events_of(body) == ([] if value is None else [Field("a", value)])


def test_charset_of_the_body():
    body = part(b'name="a"', b"\xe4") + END
    assert events_of(body, content_type=TYPE + "; charset=iso-8859-1") == [Field("a", "ä")]


def test_preamble_and_epilogue_are_ignored():
    body = b"This is a form.\r\n" + part(b'name="a"', b"1") + END + b"\r\nand this was it"
    for step in (0, 1, 5):
        assert events_of(body, step=step) == [Field("a", "1")]


def test_no_parts():
    assert events_of(b"--XX--") == []


@pytest.mark.parametrize("cut", range(len(FORM) - 3))
def test_truncated_anywhere(cut):
    assert refusal_of(FORM[:cut]) == 400
    if cut % 16 == 0:
        assert refusal_of(FORM[:cut], step=1) == 400


@pytest.mark.parametrize(
    "body",
    [
        b"--YY\r\n",
        b"no boundary at all",
        b"--XX\n" + part(b'name="a"', b"1") + END,
        b"--XXX\r\n" + END,
        part(b'name="a"', b"1\r\n--XX?") + END,
        b'--XX\r\nContent-Disposition: attachment; name="a"\r\n\r\n1\r\n' + END,
        b"--XX\r\nContent-Type: text/plain\r\n\r\n1\r\n" + END,
        b"--XX\r\nContent-Disposition form-data\r\n\r\n1\r\n" + END,
        b'--XX\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n1\r\n' + END,
        b'--XX\r\nContent-Disposition: form-data; name="a"\n\n1\r\n' + END,
        part(b'name="a"', b"12", b"Content-Length: 1") + END,
        part(b'name="a"', b"12", b"Content-Length: 3") + END,
        part(b'name="a"; filename="a"', b"12", b"Content-Length: 3") + END,
        b"--XX\r\n\r\n" + END,
        b"x--XX--",
        b"xx--XX\r\n" + part(b'name="a"', b"1") + END,
        part(b'name="a"', b"12", b"Content-Length: -1") + END,
    ],
)
def test_forged(body):
    assert refusal_of(body) == 400
    assert refusal_of(body, step=1) == 400


@pytest.mark.parametrize(
    ("body", "bounds"),
    [
        (part(b'name="a"', b"1") * 4 + END, Bounds(parts=3)),
        (part(b'name="a"', b"x" * 11) + END, Bounds(field=10)),
        (part(b'name="a"', b"x" * 9) * 3 + END, Bounds(field=10, fields=26)),
        (part(b'name="' + b"a" * 200 + b'"', b"1") + END, Bounds(header_line=100)),
        (b"--XX\r\nX-Endless: " + b"a" * 1000, Bounds(header_line=100)),
        (part(b'name="a"', b"1", *[b"X-%d: y" % number for number in range(4)]) + END, Bounds(header_lines=4)),
    ],
)
def test_bounds(body, bounds):
    assert refusal_of(body, bounds=bounds) == 413
    assert refusal_of(body, bounds=bounds, step=1) == 413


def test_a_file_is_not_held_back():
    parser = FormParser(TYPE, Bounds(field=10))
    list(parser.feed(b'--XX\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'))
    for _ in range(100):
        assert list(parser.feed(b"y" * 65536)) == [b"y" * 65536]


@pytest.mark.parametrize("at", [SEARCH_FIRST, SEARCH_FIRST + SEARCH])
@pytest.mark.parametrize("near", range(-12, 3))
def test_marks_across_the_ends_of_what_is_searched_at_once(at, near):
    before = part(b'name="f"; filename="f"', b"")
    content = b"\r\n--XY" * (SEARCH // 4)
    content = content[: at + near]
    body = part(b'name="f"; filename="f"', content, b"Content-Length: %d" % len(content)) + before + END
    first, data, *rest = found_in(body)
    assert (first, data) == (File("f", "f", ""), content)
    assert rest == [FileEnd.END, File("f", "f", ""), FileEnd.END]


def test_empty_lines_without_end_are_not_looked_at_one_by_one():
    """Each would be cheap; a body has millions of them."""
    shown = 0
    body = b"\r\n" * 200_000 + part(b'name="a"', b"1") + part(b'name="f"; filename="f"', b"\r\n" * 200_000) + END

    def read(offset: int, length: int) -> bytes:
        nonlocal shown
        shown += 1
        return body[offset : offset + length]

    assert [type(part) for part in find_parts(FormParser(TYPE), read)] == [Field, Span]
    assert shown < 50


NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\%'), min_size=1, max_size=20)


@given(st.lists(st.tuples(NAME, st.binary(max_size=60), st.booleans()), max_size=6), st.integers(0, 40))
def test_what_a_client_sends_comes_out(parts, step):
    body, expected = b"", []
    for name, raw, is_file in parts:
        if is_file:
            body += part(f'name="{name}"; filename="f"'.encode(), raw)
            expected += [File(name, "f", ""), raw, FileEnd.END] if raw else [File(name, "f", ""), FileEnd.END]
        else:
            body += part(f'name="{name}"'.encode(), raw.hex().encode())
            expected += [Field(name, raw.hex())] if raw else []
    assert events_of(body + END, step=step) == expected


@given(
    st.lists(st.one_of(st.binary(max_size=30), st.sampled_from([b"--XX", b"\r\n", b"--", FORM[:60]]))),
    st.integers(1, 9),
)
def test_no_bytes_raise_anything_else(pieces, step):
    body = b"".join(pieces)
    with suppress(ProtocolError):
        fed_in_steps(body, TYPE, BOUNDS, step)
    assert outcome(lambda: fed_in_steps(body, TYPE, BOUNDS, 0)) == outcome(lambda: found_in(body))
