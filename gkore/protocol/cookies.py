"""The Cookie header (RFC 6265 section 4.2, read as section 5.4 clients write it): names and values, as they were sent.

a=1; b=2      two cookies, in the order sent
a=x=y         the value may hold ``=`` (Kore cuts it)
a="x"         the quotes belong to the value; nothing is decoded, as in Kore
a= and a      nothing, as in Kore
"""

from __future__ import annotations

from collections.abc import Iterable

Cookies = list[tuple[str, str]]


def parse_cookies(headers: Iterable[bytes], maximum: int) -> Cookies:
    """The first ``maximum`` cookies of all Cookie headers; never raises (Kore: one header, 9 cookies)."""
    cookies: Cookies = []
    for header in headers:
        for crumb in _text(header).split(";"):
            name, _, value = crumb.strip(" \t").partition("=")
            if name and value:
                if len(cookies) >= maximum:
                    return cookies
                cookies.append((name, value))
    return cookies


def _text(header: bytes) -> str:
    # RFC 6265 allows ASCII only; browsers send UTF-8 and old clients Latin-1, which any byte is.
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")
