"""The lines of access logs."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkore.protocol.accesslog import JsonLines, Lines, escape, name_client
from gkore.protocol.fields import Fields, read_fields
from gkore.protocol.line import RequestLine, read_line

NOW = 1_700_000_000.5
PLAIN = re.compile(
    r"(\S+) - (\S+) \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
    r'"(\w+) ([^"]*) HTTP/1\.(\d)" (\d+) (\d+) "([^"]*)" "([^"]*)"\n'
)


WHO = "192.0.2.1"


def asked(target: bytes = b"/a?b=c", minor: int = 1) -> RequestLine:
    path, mark, query = target.partition(b"?")
    line = read_line(b"GET %b HTTP/1.%d" % (path, minor))
    return line.ask(mark + query) if mark else line


def said(headers: bytes = b"") -> Fields:
    return read_fields(b"host: x\r\n" + headers + b"\r\n")


def kore(line: RequestLine, fields: Fields, query: bool = False, who: str = WHO) -> tuple[str, ...]:
    lines = Lines(query)
    lines.tick(NOW)
    first = b"".join((lines.head(who), lines.request(line), lines.count((200, 11)), lines.tail(fields)))
    kept = (lines.heads[who], line.logged, lines.counts[200, 11], fields.logged)
    assert b"".join(kept) == first, "what is kept says the same"
    found = PLAIN.fullmatch(first.decode("ascii"))
    assert found, first
    return found.groups()


def json_line(line: RequestLine, fields: Fields) -> bytes:
    lines = JsonLines(3)
    lines.tick(NOW)
    line.logged = fields.logged = b""
    first = (lines.head(WHO), lines.request(line), lines.count((200, 11)), lines.tail(fields))
    return b"".join((*first, lines.span(1500), lines.route("^/a"), b"id-1", b'"}\n'))


def test_kore() -> None:
    fields = said(b"referer: http://r/\r\nuser-agent: me (x)\r\n")
    assert kore(asked(), fields) == ("192.0.2.1", "-", "GET", "/a", "1", "200", "11", "http://r/", "me (x)")
    assert kore(asked(minor=0), said())[4:] == ("0", "200", "11", "-", "-")
    assert kore(asked(), said(), query=True)[3] == "/a?b=c"


def test_a_unix_client_and_a_certificate() -> None:
    assert kore(asked(), said(), who=name_client("", "Ada"))[:2] == ("-", "Ada")
    assert kore(asked(), said(), who=name_client("", ""))[:2] == ("-", "-")
    assert kore(asked(), said(), who=name_client("::1", 'Ada "L\u00f6"\n'))[:2] == (
        "::1",
        r"Ada\x20\x22L\xc3\xb6\x22\x0a",
    )


def test_time_goes_on() -> None:
    lines = Lines(False)
    lines.tick(NOW)
    before = lines.head(WHO)
    lines.tick(NOW + 3600)
    assert WHO not in lines.heads
    assert lines.head(WHO) != before


@pytest.mark.parametrize(
    ("raw", "shown"),
    [(b'a"b', r"a\x22b"), (b"a\\b", r"a\x5cb"), (b"\xff\x00\n", r"\xff\x00\x0a"), (b"plain [x]", "plain [x]")],
)
def test_odd_bytes_are_escaped(raw: bytes, shown: str) -> None:
    assert escape(raw).decode() == shown


@given(st.binary(max_size=60).filter(lambda raw: b"\n" not in raw and b"\r" not in raw), st.text(max_size=20))
def test_whatever_is_sent_a_line_is_a_line(raw: bytes, text: str) -> None:
    referer = text.encode().replace(b"\n", b"").replace(b"\r", b"")
    fields = said(b"user-agent: " + raw + b"\r\nreferer: " + referer + b"\r\n")
    target = b"/" + re.sub(rb"[?# ]", b"", raw) if raw.isascii() else b"/"
    kore(asked(target), fields)
    line = json_line(asked(target), fields)
    assert line.count(b"\n") == 1
    json.loads(line)


def test_json() -> None:
    found = json.loads(json_line(asked(), said(b'user-agent: "q"\r\n')))
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", found.pop("time"))
    assert found == {
        "client": "192.0.2.1",
        "method": "GET",
        "path": "/a",
        "query": "b=c",
        "protocol": "HTTP/1.1",
        "status": 200,
        "length": 11,
        "duration_ms": 1.5,
        "host": "x",
        "referer": "",
        "agent": '"q"',
        "worker": 3,
        "route": "^/a",
        "request_id": "id-1",
    }
