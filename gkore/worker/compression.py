"""``http_compress``: gzip and zstd for clients that ask, per domain and route.

Compressed is what says that it is text (content-type), is not coded already, may be changed (cache-control), and has at
least COMPRESS_MIN bytes. Streams are compressed piece by piece, each flushed, so that events arrive when they are sent.
An answer that could be compressed says ``vary``, and its strong entity tag becomes a weak one (RFC 9110 8.8.3.3).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gevent import get_hub

from gkore.protocol.negotiation import IDENTITY, choose_coding

if TYPE_CHECKING:
    from gkore.worker.request import Request

try:  # Python 3.14, or the extra gkore[zstd]
    from compression import zstd
except ImportError:
    try:
        import zstandard as zstd
    except ImportError:
        zstd = None

COMPRESS_MIN = 1024
"""Bytes. Below, what is saved fits in the packet that is sent anyhow."""
ASIDE = 262144
"""Bytes from which on the work is done in a thread, so that others get their turn."""
LEVEL_GZIP, LEVEL_ZSTD = 5, 3
CODINGS = ("zstd", "gzip") if zstd is not None else ("gzip",)

Encoder = Callable[[bytes | None], bytes]

_texts = re.compile(
    rb"content-type:\s*(?:text/|application/(?:json|javascript|xml|wasm|manifest\+json|[\w.-]+\+(?:json|xml))|image/svg\+xml"
    rb"|application/(?:x-ndjson|x-javascript|graphql)|font/(?:ttf|otf))",
    re.IGNORECASE,
).match


def agree(request: Request, lines: list[bytes]) -> str:
    """The coding for an answer with these header lines, "" for none; ``lines`` are made to say so."""
    lines[:] = b"".join(lines).splitlines(keepends=True)  # a file's come as one
    if not any(map(_texts, lines)):
        return ""
    for line in lines:
        if line.startswith((b"content-encoding:", b"content-range:")):
            return ""
        if line.startswith(b"cache-control:") and b"no-transform" in line:
            return ""
    if not any(line.startswith(b"vary:") and b"accept-encoding" in line.lower() for line in lines):
        lines.append(b"vary: accept-encoding\r\n")
    accepted = b",".join(request.fields.all(b"accept-encoding")).decode("latin-1")
    coding = choose_coding(accepted, CODINGS)
    if coding == IDENTITY:
        return ""
    lines[:] = [b"etag: W/" + line[6:] if line.startswith(b'etag: "') else line for line in lines]
    lines.append(b"content-encoding: %b\r\n" % coding.encode())
    return coding


def compress(body: bytes, coding: str) -> bytes:
    """All of a body."""
    work = _gzip if coding == "gzip" else _zstd
    if len(body) < ASIDE:
        return work(body)
    result: bytes = get_hub().threadpool.apply(work, (body,))
    return result


def encoder(coding: str) -> Encoder:
    """Compresses pieces, each so that it can be read at once; None ends it."""
    if coding == "gzip":
        packer = zlib.compressobj(LEVEL_GZIP, zlib.DEFLATED, 31)
        sync = zlib.Z_SYNC_FLUSH
        return lambda piece: packer.flush() if piece is None else packer.compress(piece) + packer.flush(sync)
    return _zstd_encoder()


def _gzip(body: bytes) -> bytes:
    return zlib.compress(body, LEVEL_GZIP, 31)


def _zstd(body: bytes) -> bytes:
    if hasattr(zstd, "ZstdCompressor") and not hasattr(zstd, "compress"):
        result: bytes = zstd.ZstdCompressor(level=LEVEL_ZSTD).compress(body)
    else:
        result = zstd.compress(body, LEVEL_ZSTD)
    return result


def _zstd_encoder() -> Encoder:
    if hasattr(zstd, "COMPRESSOBJ_FLUSH_BLOCK"):  # the package zstandard
        packer: Any = zstd.ZstdCompressor(level=LEVEL_ZSTD).compressobj()
        block = zstd.COMPRESSOBJ_FLUSH_BLOCK
        return lambda piece: packer.flush() if piece is None else packer.compress(piece) + packer.flush(block)
    packer = zstd.ZstdCompressor(level=LEVEL_ZSTD)
    return lambda piece: packer.flush() if piece is None else packer.compress(piece, packer.FLUSH_BLOCK)
