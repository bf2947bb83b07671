"""The content types of files by their extension; ``http_media_type`` adds to them and replaces them.

Kore knows a dozen, and says nothing for others, as we do.
"""

from __future__ import annotations

from collections.abc import Mapping

MEDIA_TYPES: Mapping[str, str] = {
    extension: kind
    for kind, extensions in {
        "application/gzip": "gz",
        "application/javascript": "js",
        "application/json": "json map",
        "application/manifest+json": "webmanifest",
        "application/pdf": "pdf",
        "application/rss+xml": "rss",
        "application/atom+xml": "atom",
        "application/wasm": "wasm",
        "application/xml": "xml",
        "application/zip": "zip",
        "audio/mpeg": "mp3",
        "audio/ogg": "ogg oga opus",
        "audio/wav": "wav",
        "font/otf": "otf",
        "font/ttf": "ttf",
        "font/woff": "woff",
        "font/woff2": "woff2",
        "image/avif": "avif",
        "image/gif": "gif",
        "image/jpeg": "jpeg jpg",
        "image/png": "png",
        "image/svg+xml": "svg",
        "image/webp": "webp",
        "image/x-icon": "ico",
        "text/calendar": "ics",
        "text/css": "css",
        "text/csv": "csv",
        "text/html": "htm html",
        "text/javascript": "mjs",
        "text/markdown": "md",
        "text/plain": "txt",
        "video/mp4": "mp4 m4v",
        "video/webm": "webm",
    }.items()
    for extension in extensions.split()
}


def media_type(name: bytes, types: Mapping[str, str]) -> str:
    """The content type of a file by its name; "" when nobody knows it."""
    extension = name.rpartition(b"/")[2].rpartition(b".")[2].decode("latin-1").lower()
    return types.get(extension, "")
