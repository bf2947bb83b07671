"""``multipart/form-data`` bodies (RFC 7578), piece by piece: fields come out whole, files as they arrive.

    parser = FormParser(content_type, bounds)
    for event in parser.feed(piece): ...      Field | File | bytes (of the last File) | FileEnd
    parser.close()                            raises when the body ended too early

    for event in find_parts(parser, read): ...     Field | Span, of a body that is all there: files are only found

The framing is the ``multipart`` library's. What is decided here:
- A part with a filename is a file, one with an empty filename (nothing chosen in the browser) is skipped, all others
  are fields. Empty fields are skipped, as in Kore and as ``a=`` is in a query; empty files are not (Kore: skipped).
- A filename is its last component: RFC 7578 section 4.2 forbids to trust the directories a client names.
- A field is decoded by its own charset, else the body's, else UTF-8. Skipped like a bad pair of a query: a field in a
  charset that isn't in the list or whose bytes don't fit it, a part whose name or filename holds control bytes.
- Kore gives up without a word for a quoted boundary or a charset parameter, and keeps 4 header lines a part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Literal, NamedTuple

from multipart import MultipartError, ParserLimitReached, PushMultipartParser, parse_options_header

from gkore.errors import ProtocolError

# RFC 2046 section 5.1.1.
_is_boundary = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]").fullmatch
# Python knows codecs that must not meet a stranger's bytes: punycode is quadratic, unicode_escape is a language.
_is_charset = re.compile(
    r"utf-?8|(us-)?ascii|latin-?1|iso-8859-\d{1,2}|windows-125\d|koi8-[ru]|big5|gbk|gb18030"
).fullmatch
_control = re.compile(r"[\x00-\x1f\x7f]").search


SEARCH_FIRST, SEARCH = 4096, 262144
"""Bytes looked through at once: fields are short, files are long."""


class Bounds(NamedTuple):
    """What a body may hold: parts, bytes of a header line of a part, lines of a part, bytes of a field and of all."""

    parts: int = 1000
    header_line: int = 4096
    header_lines: int = 8
    field: int = 1024 * 1024
    fields: int = 16 * 1024 * 1024


BOUNDS = Bounds()


class Field(NamedTuple):
    """One text parameter, whole."""

    name: str
    value: str


class File(NamedTuple):
    """A file begins: its bytes follow as ``bytes`` events, then one FileEnd; ``content_type`` is lower case or ""."""

    name: str
    filename: str
    content_type: str


class Span(NamedTuple):
    """A file that lies in the body from ``start`` to ``end``, which is the first byte behind it."""

    file: File
    start: int
    end: int


class FileEnd(Enum):
    """The last File is whole."""

    END = "end"


Event = Field | File | bytes | Literal[FileEnd.END]


class FormParser:
    """One body. ``feed`` and ``close`` raise ProtocolError: 413 over a bound, 400 for what isn't a form."""

    __slots__ = ("_charset", "_collected", "_is_file", "_parser", "_part", "_room", "bounds", "mark")

    def __init__(self, content_type: str, bounds: Bounds = BOUNDS) -> None:
        """Take the request's Content-Type; ProtocolError 400 without a usable boundary (Kore: parses nothing)."""
        kind, options = parse_options_header(content_type)
        boundary = options.get("boundary", "")
        if kind != "multipart/form-data" or not _is_boundary(boundary):
            raise ProtocolError(400, "not a multipart form with a boundary")
        self._parser = PushMultipartParser(
            boundary,
            max_header_size=bounds.header_line,
            max_header_count=bounds.header_lines,
            max_segment_count=bounds.parts,
        )
        self.bounds = bounds
        self.mark = b"--" + boundary.encode()
        """What every line between two parts begins with."""
        self._room = bounds.fields
        self._charset = options.get("charset", "utf-8")
        self._part: Any = None
        self._is_file = False
        self._collected: bytearray | None = None

    def feed(self, piece: bytes) -> Iterator[Event]:
        """What ``piece`` completes, in order; the iterator must be used up before the next piece."""
        if not piece:
            return  # the library takes this for the end
        try:
            for event in self._parser.parse(piece):
                yield from self._take(event)
        except MultipartError as failure:
            raise _refusal(failure) from None

    def close(self) -> None:
        """Say that the body is over; ProtocolError 400 when its last boundary never came."""
        try:
            self._parser.close()
        except MultipartError as failure:
            raise _refusal(failure) from None

    def _take(self, event: Any) -> Iterator[Event]:
        if event is None:
            yield from self._end()
        elif not isinstance(event, bytes):
            yield from self._begin(event)
        elif self._is_file:
            yield event
        elif self._collected is not None:
            if len(self._collected) + len(event) > self.bounds.field:
                raise ProtocolError(413, f"a form field over {self.bounds.field} bytes")
            if len(event) > self._room:
                raise ProtocolError(413, f"form fields over {self.bounds.fields} bytes together")
            self._room -= len(event)
            self._collected += event

    def _begin(self, part: Any) -> Iterator[File]:
        self._part, self._is_file, self._collected = part, False, None
        if not part.name or _control(part.name):
            return
        if part.filename is None:
            self._collected = bytearray()
            return
        filename = part.filename.replace("\\", "/").rpartition("/")[2]
        if filename not in ("", ".", "..") and not _control(filename):
            self._is_file = True
            yield File(part.name, filename, part.content_type or "")

    def _end(self) -> Iterator[Event]:
        if self._is_file:
            yield FileEnd.END
        elif self._collected:
            value = _decode(bytes(self._collected), (self._part.charset or self._charset).lower())
            if value is not None:
                yield Field(self._part.name, value)


Read = Callable[[int, int], bytes]
"""``read(offset, length)``: up to so many bytes of a body from there; fewer only at its end."""


def find_parts(parser: FormParser, read: Read) -> Iterator[Field | Span]:
    """The parts of a body that is all there, in order; ProtocolError 400, 413 as ``feed`` and ``close``.

    The parser judges every byte, but doesn't say where it has seen it: so it is shown no more at once than a mark, a
    head or a content, and where these begin and end is searched for. Files are held nowhere, however large they are.
    """
    mark = parser.mark
    at = _search(read, mark, 0)
    if at >= 0:
        at, last = _pass(parser, read, max(0, at - 2), at + len(mark), [])
        while not last:
            events = list(parser.feed(head := _head(parser, read, at)))
            start = at + len(head)
            end = _search(read, b"\r\n" + mark, start)
            if end < 0:
                break
            for at in range(start, end, SEARCH):
                for _ in parser.feed(read(at, min(end - at, SEARCH))):
                    pass  # of a file: it stays where it is
            if events and isinstance(events[-1], File):
                yield Span(events[-1], start, end)
            ended: list[Event] = []
            at, last = _pass(parser, read, end, end + 2 + len(mark), ended)
            yield from (event for event in ended if isinstance(event, Field))
    parser.close()


def _pass(parser: FormParser, read: Read, start: int, end: int, events: list[Event]) -> tuple[int, bool]:
    """Show the parser a mark and what stands behind it: where the next part begins, and whether this was the last."""
    events += parser.feed(read(start, end + 2 - start))
    return end + 2, read(end, 2) != b"\r\n"


def _head(parser: FormParser, read: Read, at: int) -> bytes:
    """The header lines of a part with the empty line behind them; more than may be there when that does not come."""
    longest = parser.bounds.header_lines * (parser.bounds.header_line + 2) + 2
    window = read(at - 2, longest + 2)  # a part without a line has its empty line at once
    end = window.find(b"\r\n\r\n")
    return window[2 : end + 4] if end >= 0 else window[2:]


def _search(read: Read, needle: bytes, start: int) -> int:
    """Where ``needle`` is first found from ``start`` on; -1 when it isn't."""
    size = SEARCH_FIRST
    while True:
        window = read(start, size)
        found = window.find(needle)
        if found >= 0:
            return start + found
        if len(window) < size:
            return -1
        start += size - len(needle) + 1
        size = SEARCH


def _decode(octets: bytes, charset: str) -> str | None:
    try:
        return octets.decode(charset) if _is_charset(charset) else None
    except (UnicodeDecodeError, LookupError):
        return None


def _refusal(failure: MultipartError) -> ProtocolError:
    return ProtocolError(413 if isinstance(failure, ParserLimitReached) else 400, str(failure))
