"""The websocket opening handshake, RFC 6455 section 4.2: may this request become a websocket, and what the 101 says.

Compression (RFC 7692) is negotiated without context takeover on either side: a connection that is silent holds no
window, and a broadcast is compressed once for all who agreed on the same size of window.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Collection, Sequence
from typing import NamedTuple

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.headers import build_extension, parse_extension
from websockets.typing import ExtensionName
from websockets.utils import accept_key

from gkore.errors import ProtocolError
from gkore.protocol.head import Head

GET = 1
VERSION = b"13"
WINDOW_BITS = 12
"""4 KiB of window: a message is compressed on its own, and most are smaller than that."""

_OFFER = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True,
    client_no_context_takeover=True,
    server_max_window_bits=WINDOW_BITS,
    compress_settings={"memLevel": 5},
)


class Upgrade(NamedTuple):
    """What was agreed on: the fields of the 101, the compression if there is one, the subprotocol or ""."""

    fields: bytes
    deflate: PerMessageDeflate | None
    subprotocol: str


def upgrade(
    head: Head, origins: Collection[str] = (), compress: bool = False, subprotocols: Sequence[str] = ()
) -> Upgrade:
    """Agree to the websocket that ``head`` asks for. ProtocolError: 405, 426, 403 or 400, with the fields it needs.

    Kore looks at the key and the version only, and answers 400 for either.
    """
    fields = head.fields
    if head.line.method != GET:
        raise ProtocolError(405, "a websocket begins with GET", (("allow", "GET"),))
    if fields.upgrade != b"websocket":
        # RFC 9110 15.5.22: a 426 says what to upgrade to.
        raise ProtocolError(426, "this is a websocket", (("upgrade", "websocket"), ("sec-websocket-version", "13")))
    if not head.line.minor or not head.upgrade:
        raise ProtocolError(400, "a websocket handshake is HTTP/1.1 and has no body")
    # RFC 6455 4.2.2: a version we don't speak is answered with the one that we do.
    if fields.all(b"sec-websocket-version") != [VERSION]:
        raise ProtocolError(
            426, "websocket version 13 only", (("sec-websocket-version", "13"), ("upgrade", "websocket"))
        )
    key = check_key(fields.all(b"sec-websocket-key"))
    check_origin(fields.all(b"origin"), origins)
    lines = [f"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept_key(key)}\r\n"]
    subprotocol = choose(fields.all(b"sec-websocket-protocol"), subprotocols)
    if subprotocol:
        lines.append(f"sec-websocket-protocol: {subprotocol}\r\n")
    extension, deflate = negotiate(fields.all(b"sec-websocket-extensions")) if compress else ("", None)
    if extension:
        lines.append(f"sec-websocket-extensions: {extension}\r\n")
    return Upgrade("".join(lines).encode("latin-1"), deflate, subprotocol)


def check_key(keys: list[bytes]) -> str:
    """The only key, 16 bytes in base64 (RFC 6455 4.2.1). ProtocolError 400 otherwise."""
    try:
        if len(keys) == 1 and len(b64decode(keys[0], validate=True)) == 16:
            return keys[0].decode("ascii")
    except binascii.Error:
        pass
    raise ProtocolError(400, "Sec-WebSocket-Key is not 16 bytes in base64")


def check_origin(sent: list[bytes], origins: Collection[str]) -> None:
    """ProtocolError 403 when a browser's page is not from one of ``origins``; programs send no Origin and may pass."""
    if not origins or not sent:
        return
    if len(sent) > 1 or sent[0].decode("latin-1").lower() not in origins:
        raise ProtocolError(403, "this origin may not open websockets")


def choose(offered: list[bytes], ours: Sequence[str]) -> str:
    """The first of ``ours`` that the client offers, or "" (RFC 6455 4.2.2: none of them is no failure)."""
    names = {name.strip() for value in offered for name in value.decode("latin-1").split(",")}
    return next((name for name in ours if name in names), "")


def negotiate(offers: list[bytes]) -> tuple[str, PerMessageDeflate | None]:
    """The first offer of permessage-deflate that fits, as header value and codec. ProtocolError 400 for gibberish."""
    try:
        parsed = [offer for value in offers for offer in parse_extension(value.decode("latin-1"))]
    except InvalidHeader:
        raise ProtocolError(400, "Sec-WebSocket-Extensions is malformed") from None
    for name, parameters in parsed:
        if name != _OFFER.name:
            continue
        try:
            agreed, deflate = _OFFER.process_request_params(parameters, [])
        except NegotiationError:
            continue
        return build_extension([(ExtensionName(name), agreed)]), deflate
    return "", None
