"""Range requests (RFC 9110 section 14): which bytes of a representation a client wants, and how to label them.

A range is ``first, last``, both inclusive, both within the representation. What is not understood is no range request
(section 14.2 lets a server ignore Range): the whole representation is the answer. So is a greedy one of more than
``RANGES_MAX`` ranges: nginx has had max_ranges since the "Apache killer" of 2011. Kore ignores Range altogether.
"""

from __future__ import annotations

import re

from gkore.errors import ProtocolError

Range = tuple[int, int]

RANGES_MAX = 16
# A part of a multipart answer costs about this much; section 15.3.7.2 allows to send a smaller gap instead.
GAP = 80

_specs = re.compile(r"bytes=[ \t]*([\d\-, \t]+)", re.IGNORECASE | re.ASCII).fullmatch
# 19 digits hold any file; a longer number would be paid for in arithmetic.
_spec = re.compile(r"(\d{0,19})-(\d{0,19})", re.ASCII).fullmatch


def parse_range(header: str, size: int) -> list[Range] | None:
    """The ranges of a Range header on ``size`` bytes, None to send all; ProtocolError 416 when none can be satisfied.

    Ranges that overlap or nearly touch are joined, and then come in ascending order; else in the client's.
    """
    found = _specs(header)
    if found is None:
        return None
    wanted: list[Range] = []
    specs = [spec for spec in map(str.strip, found[1].split(",")) if spec]
    if not specs or len(specs) > RANGES_MAX:
        return None
    for text in specs:
        numbers = _spec(text)
        if numbers is None or text == "-" or _is_backwards(*numbers.groups()):
            return None
        resolved = _resolve(numbers[1], numbers[2], size)
        if resolved is not None:
            wanted.append(resolved)
    if not wanted:
        raise ProtocolError(416, f"no such range in {size} bytes")
    return _joined(wanted)


def content_range(part: Range | None, size: int) -> str:
    """The value of Content-Range (RFC 9110 section 14.4) for a 206, or for a 416 when ``part`` is None."""
    return f"bytes */{size}" if part is None else f"bytes {part[0]}-{part[1]}/{size}"


def part_heads(parts: list[Range], size: int, content_type: str, boundary: str) -> tuple[list[bytes], bytes, int]:
    """What stands before each part of a ``multipart/byteranges`` body, what ends it, and the length of the whole."""
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    heads = [
        f"\r\n--{boundary}\r\n{kind}Content-Range: {content_range(part, size)}\r\n\r\n".encode("latin-1")
        for part in parts
    ]
    end = f"\r\n--{boundary}--\r\n".encode("latin-1")
    content = sum(last - first + 1 for first, last in parts)
    return heads, end, sum(map(len, heads)) + content + len(end)


def _is_backwards(first: str, last: str) -> bool:
    return bool(first and last) and int(first) > int(last)


def _resolve(first: str, last: str, size: int) -> Range | None:
    if not first:
        length = min(int(last), size)
        return (size - length, size - 1) if length else None
    start = int(first)
    return (start, min(int(last), size - 1) if last else size - 1) if start < size else None


def _joined(wanted: list[Range]) -> list[Range]:
    ascending = sorted(wanted)
    joined = ascending[:1]
    for first, last in ascending[1:]:
        before = joined[-1]
        if first <= before[1] + GAP:
            joined[-1] = (before[0], max(before[1], last))
        else:
            joined.append((first, last))
    return wanted if len(joined) == len(wanted) else joined
