"""Response heads as bytes: constant parts are built once a second, values are checked before they reach a wire.

The order is Kore's: status line, server, (ours: date,) connection, keep-alive, strict-transport-security, what the
handler added, content-length or transfer-encoding.
"""

from __future__ import annotations

import re
from email.utils import formatdate
from html import escape
from typing import Final

from gkore.protocol.status import reason

BODILESS: Final = frozenset((204, 304))
"""RFC 9110 6.4.1: these, and 1xx, have no content whatever the handler says."""

LINES_MAX: Final = 1024
known_lines: dict[tuple[str, str], bytes] = {}
"""Fields that were made before; everybody may look, only ``header_line`` writes."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS = frozenset(("content-length", "transfer-encoding", "connection", "keep-alive"))


class Prefixes(dict[int, bytes]):
    """Status to everything that comes before the handler's own fields, for one version and one connection option.

    Made on first use and thrown away by ``clear`` when the second changes, because the date is among it.
    """

    __slots__ = ("_after", "_minor", "_server")

    def __init__(self, minor: int, server: str, after: str) -> None:
        self._minor = minor
        self._server = f"server: {server}\r\n" if server else ""
        self._after = after

    def __missing__(self, status: int) -> bytes:
        if status.__class__ is not int or not 100 <= status <= 999:
            raise ValueError(f"a status is a number from 100 to 999, not {status!r}")
        date = formatdate(usegmt=True)
        head = f"HTTP/1.{self._minor} {status} {reason(status)}\r\n{self._server}date: {date}\r\n{self._after}"
        prefix = self[status] = head.encode("latin-1")
        return prefix


class ResponseHeads:
    """All prefixes of one server: ``keep[minor]`` and ``close[minor]``; ``tick`` once a second."""

    __slots__ = ("_all", "close", "keep", "plain")

    def __init__(self, server: str, keepalive_seconds: int, hsts_seconds: int) -> None:
        hsts = f"strict-transport-security: max-age={hsts_seconds}; includeSubDomains\r\n" if hsts_seconds else ""
        keep = f"connection: keep-alive\r\nkeep-alive: timeout={keepalive_seconds}\r\n{hsts}"
        close = f"connection: close\r\n{hsts}"
        self.keep: tuple[Prefixes, ...] = (Prefixes(0, server, keep), Prefixes(1, server, keep))
        self.close: tuple[Prefixes, ...] = (Prefixes(0, server, close), Prefixes(1, server, close))
        self.plain = Prefixes(1, server, hsts)
        """For 101: the handler's own fields say what the connection becomes."""
        self._all = (*self.keep, *self.close, self.plain)

    def tick(self) -> None:
        for prefixes in self._all:
            prefixes.clear()


def header_line(name: str, value: str) -> bytes:
    """``name: value`` as it goes over the wire, name in lower case. ValueError for what would break the message.

    The fields that frame a message are gkore's own: a handler that could set them could split a response.
    """
    line = known_lines.get((name, value))
    if line is not None:
        return line
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a header name: letters, digits and !#$%&'*+-.^_`|~ only")
    if not _VALUE.fullmatch(value):
        raise ValueError(
            f"header {name!r} can't carry a line break, a control or a character outside Latin-1: {value!r}"
        )
    lower = name.lower()
    if lower in _OURS:
        raise ValueError(f"header {lower!r} is set by the server itself, from the body and the state of the connection")
    line = f"{lower}: {value}\r\n".encode("latin-1")
    if len(known_lines) >= LINES_MAX:
        known_lines.clear()
    known_lines[name, value] = line
    return line


def error_page(status: int) -> bytes:
    """The small page of ``http_pretty_error yes``."""
    title = escape(f"{status} {reason(status)}")
    style = "body{font:16px system-ui,sans-serif;margin:20vh auto;max-width:30em;text-align:center;color:#333}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<style>{style}</style><h1>{title}</h1></html>\n"
    ).encode()
