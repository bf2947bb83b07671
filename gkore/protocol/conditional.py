"""Conditional requests (RFC 9110 section 13) and the dates that they compare (section 5.6.7).

The order of section 13.2.2: If-Match, else If-Unmodified-Since; If-None-Match, else If-Modified-Since; then If-Range.
Kore knows If-Modified-Since alone, and there only the very second of the file.
"""

from __future__ import annotations

import re
from calendar import timegm
from time import gmtime
from typing import Protocol

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")"
_CLOCK = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES = [
    re.compile(pattern, re.ASCII).fullmatch
    for pattern in (
        rf"(?:{'|'.join(_DAYS)}), (?P<day>\d\d) {_MONTH} (?P<year>\d{{4}}) {_CLOCK} GMT",
        rf"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>\d\d)-{_MONTH}-(?P<year>\d\d) {_CLOCK} GMT",
        rf"(?:{'|'.join(_DAYS)}) {_MONTH} (?P<day>[ \d]\d) {_CLOCK} (?P<year>\d{{4}})",
    )
]
_tags = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\U0010ffff]*"').findall


class Fetch(Protocol):
    """Header fields by lower-case name."""

    def get(self, name: bytes, /) -> bytes | None: ...


def format_date(seconds: float) -> str:
    """Seconds since 1970 as an IMF-fixdate, whatever the locale."""
    year, month, day, hour, minute, second, weekday, *_ = gmtime(seconds)
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"


def parse_date(text: str, now: float) -> int | None:
    """Seconds since 1970 of any of the three formats; None for what isn't a date.

    ``now`` settles the century of a two-digit year: a date over 50 years ahead is one of the past (section 5.6.7).
    """
    for match in _DATES:
        found = match(text)
        if found is not None:
            break
    else:
        return None
    day, hour, minute, second = (int(found[name]) for name in ("day", "hour", "minute", "second"))
    year, month = int(found["year"]), _MONTHS.index(found["month"]) + 1
    if len(found["year"]) == 2:
        this_year = gmtime(now).tm_year
        year += this_year - this_year % 100
        year -= 100 if year > this_year + 50 else 0
    if not 1 <= day <= 31 or hour > 23 or minute > 59 or second > 60 or year < 1970:
        return None
    seconds = timegm((year, month, day, hour, minute, second))
    # timegm carries 31 Feb over to March; a leap second may carry, a day may not.
    return seconds if gmtime(seconds - second).tm_mday == day else None


def make_etag(size: int, modified_ns: int) -> str:
    """A strong entity tag for a file of ``size`` bytes modified at ``modified_ns`` nanoseconds since 1970."""
    return f'"{size:x}-{modified_ns:x}"'


def evaluate(method: bytes, headers: Fetch, etag: str, modified: int, now: float) -> int:
    """What the preconditions leave of a request for this representation: 200, 304 or 412.

    ``headers`` has lower-case names; ``etag`` is quoted, ``modified`` and ``now`` are seconds since 1970.
    """
    safe = method in (b"GET", b"HEAD")
    if (tags := _text(headers, b"if-match")) is not None:
        if not _matches(tags, etag, weak=False):
            return 412
    elif (since := _date(headers, b"if-unmodified-since", now)) is not None and modified > since:
        return 412
    if (tags := _text(headers, b"if-none-match")) is not None:
        if _matches(tags, etag, weak=True):
            return 304 if safe else 412
    elif safe and (since := _date(headers, b"if-modified-since", now)) is not None and modified <= since:
        return 304
    return 200


def range_applies(headers: Fetch, etag: str, modified: int, now: float) -> bool:
    """Whether a Range header counts (section 13.1.5): If-Range is absent, the same strong tag, or the very date.

    A date is only as good as its second, so that one less than a second old proves nothing (section 8.8.2.2).
    """
    condition = _text(headers, b"if-range")
    if condition is None:
        return True
    if condition.endswith('"'):
        return condition == etag and not etag.startswith("W/")
    return parse_date(condition, now) == modified and now - modified >= 1


def _text(headers: Fetch, name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def _date(headers: Fetch, name: bytes, now: float) -> int | None:
    text = _text(headers, name)
    return None if text is None else parse_date(text, now)


def _matches(tags: str, etag: str, *, weak: bool) -> bool:
    if tags.strip() == "*":
        return True
    if weak:
        return etag.removeprefix("W/") in [tag.removeprefix("W/") for tag in _tags(tags)]
    return not etag.startswith("W/") and etag in _tags(tags)
