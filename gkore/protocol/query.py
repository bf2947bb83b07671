"""Query strings and ``application/x-www-form-urlencoded`` bodies: bytes in, pairs of text out.

a=1&b=2       two pairs, in the order sent; duplicates are kept, whoever looks a name up takes the first
a=b=c         the value may hold ``=`` (Kore cuts it, which breaks base64)
a= and a      nothing, as in Kore: "sent empty" and "not sent" are the same to ``req.argument``
=a=b          the pair a, b, as in Kore
a+b, a%20b    both ``a b``; decoded exactly once
%zz, %0 , %00 the pair is dropped, as Kore 4 drops it: a bad escape, a control byte, text that isn't UTF-8
"""

from __future__ import annotations

import re
from itertools import islice

from gkore.errors import ProtocolError

Pairs = list[tuple[str, str]]

_DIGITS = "0123456789abcdefABCDEF"
_OCTETS = {(high + low).encode(): bytes([int(high + low, 16)]) for high in _DIGITS for low in _DIGITS}

_pieces = re.compile(rb"[^&]+").finditer
# Printable ASCII without blank, "%" and "+": nothing in such text can need decoding or be refused.
_is_plain = re.compile(rb"[!-$&-*,-~]*").fullmatch
_forbidden = re.compile(rb"[\x00-\x1f\x7f]").search
_forbidden_in_form = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]").search


def parse_query(raw: bytes, maximum: int) -> Pairs:
    """The pairs of a query string without its ``?``; ProtocolError 400 for more than ``maximum`` pairs (Kore: 19)."""
    return _pairs(raw, maximum, form=False)


def parse_form(raw: bytes, maximum: int) -> Pairs:
    """The pairs of a urlencoded body, where values may hold TAB, CR and LF. ProtocolError 400 as ``parse_query``."""
    return _pairs(raw, maximum, form=True)


def unescape(raw: bytes) -> bytes | None:
    """``raw`` with its percent escapes decoded once (RFC 3986 section 2.1), ``+`` untouched; None for a bad escape."""
    if b"%" not in raw:
        return raw
    start, *rest = raw.split(b"%")
    try:
        return start + b"".join([_OCTETS[piece[:2]] + piece[2:] for piece in rest])
    except KeyError:
        return None


def decode_component(raw: bytes, *, form: bool = False) -> str | None:
    """One name or value as text, ``+`` being a space; None for a bad escape, a control byte or bad UTF-8."""
    octets = unescape(raw.replace(b"+", b" "))
    if octets is None or (_forbidden_in_form if form else _forbidden)(octets):
        return None
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return None


def _pairs(raw: bytes, maximum: int, *, form: bool) -> Pairs:
    if raw.count(b"&") >= maximum:
        raw = _bounded(raw, maximum)
    pairs: Pairs = []
    if _is_plain(raw):
        for text in raw.decode("ascii").split("&"):
            plain_name, _, plain_value = text.lstrip("=").partition("=")
            if plain_value:
                pairs.append((plain_name, plain_value))
        return pairs
    for piece in raw.split(b"&"):
        raw_name, _, raw_value = piece.lstrip(b"=").partition(b"=")
        if raw_value:
            name, value = decode_component(raw_name, form=form), decode_component(raw_value, form=form)
            if name is not None and value is not None:
                pairs.append((name, value))
    return pairs


def _bounded(raw: bytes, maximum: int) -> bytes:
    # Looks at no more pieces than may be kept: a body of separators must not become a list of millions.
    pieces = [piece[0] for piece in islice(_pieces(raw), maximum + 1)]
    if len(pieces) > maximum:
        raise ProtocolError(400, f"more than {maximum} parameters")
    return b"&".join(pieces)
