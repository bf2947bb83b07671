"""The PROXY protocol, versions 1 and 2: one header before everything else says whom a proxy speaks for.

haproxy.org/download/3.0/doc/proxy-protocol.txt, section 2. The receiver must be told to expect it and must never guess,
so that bytes that can't begin a header are refused at the first wrong one.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from gkore.errors import ProtocolError

_V1 = b"PROXY "
# Section 2.1: the longest line, CRLF included.
_V1_MAX = 107
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD = struct.Struct("!12sBBH")
# Addresses take 216 bytes at most; the rest are type-length-values, of which a proxy sends some hundred bytes.
V2_MAX = 4096

_v1_line = re.compile(rb"PROXY (TCP4|TCP6) ([\da-fA-F:.]+) ([\da-fA-F:.]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})").fullmatch


class Proxied(NamedTuple):
    """Whom the connection is from and to; ``size`` bytes of header.

    ``source`` is empty when the proxy speaks for itself (a health check) or for no TCP: keep the peer's address.
    """

    size: int
    source: str = ""
    source_port: int = 0
    destination: str = ""
    destination_port: int = 0


def parse_proxy(data: bytes) -> Proxied | None:
    """The header at the start of ``data``, None when more bytes are needed; ProtocolError 400 when there is none."""
    if data[:1] == b"P" or not data:
        return _parse_v1(data)
    return _parse_v2(data)


def _parse_v1(data: bytes) -> Proxied | None:
    if not data.startswith(_V1[: len(data)]):
        raise _refusal("no PROXY header")
    end = data.find(b"\r\n", 0, _V1_MAX)
    if end < 0:
        if len(data) >= _V1_MAX or b"\n" in data:
            raise _refusal("a PROXY line without an end")
        return None
    line = data[:end]
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return Proxied(end + 2)
    found = _v1_line(line)
    if found is None:
        raise _refusal("a malformed PROXY line")
    kind = IPv4Address if found[1] == b"TCP4" else IPv6Address
    try:
        source, destination = (str(kind(text.decode("ascii"))) for text in found.group(2, 3))
    except ValueError:
        raise _refusal("a malformed address in a PROXY line") from None
    source_port, destination_port = int(found[4]), int(found[5])
    if max(source_port, destination_port) > 65535:
        raise _refusal("a port out of range in a PROXY line")
    return Proxied(end + 2, source, source_port, destination, destination_port)


def _parse_v2(data: bytes) -> Proxied | None:
    if not data.startswith(_V2[: len(data)]):
        raise _refusal("no PROXY header")
    if len(data) < _V2_HEAD.size:
        return None
    _, version_command, family, length = _V2_HEAD.unpack_from(data)
    if version_command not in (0x20, 0x21):
        raise _refusal("an unknown version or command in a PROXY header")
    size = _V2_HEAD.size + length
    if size > V2_MAX:
        raise _refusal(f"a PROXY header of {size} bytes")
    if len(data) < size:
        return None
    layout = {0x11: "!4s4sHH", 0x21: "!16s16sHH"}.get(family)
    if version_command == 0x20 or layout is None:
        return Proxied(size)
    if length < struct.calcsize(layout):
        raise _refusal("a PROXY header too short for its addresses")
    source, destination, *ports = struct.unpack_from(layout, data, _V2_HEAD.size)
    kind = IPv4Address if family == 0x11 else IPv6Address
    return Proxied(size, str(kind(source)), ports[0], str(kind(destination)), ports[1])


def _refusal(reason: str) -> ProtocolError:
    return ProtocolError(400, reason)
