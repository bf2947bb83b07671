"""``multipart/form-data`` bodies (RFC 7578), piece by piece: fields come out whole, files as they arrive.

    parser = FormParser(content_type, bounds)
    for event in parser.feed(piece): ...      Field | File | bytes (of the last File) | FileEnd
    parser.close()                            raises when the body ended too early

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
from collections.abc import Iterator
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


class Bounds(NamedTuple):
    """What a body may hold: parts in all, bytes of one header line of a part, lines of one part, bytes of one field."""

    parts: int = 1000
    header_line: int = 4096
    header_lines: int = 8
    field: int = 1024 * 1024


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


class FileEnd(Enum):
    """The last File is whole."""

    END = "end"


Event = Field | File | bytes | Literal[FileEnd.END]


class FormParser:
    """One body. ``feed`` and ``close`` raise ProtocolError: 413 over a bound, 400 for what isn't a form."""

    __slots__ = ("_bounds", "_charset", "_collected", "_is_file", "_parser", "_part")

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
        self._bounds = bounds
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
            if len(self._collected) + len(event) > self._bounds.field:
                raise ProtocolError(413, f"a form field over {self._bounds.field} bytes")
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


def _decode(octets: bytes, charset: str) -> str | None:
    try:
        return octets.decode(charset) if _is_charset(charset) else None
    except (UnicodeDecodeError, LookupError):
        return None


def _refusal(failure: MultipartError) -> ProtocolError:
    return ProtocolError(413 if isinstance(failure, ParserLimitReached) else 400, str(failure))
