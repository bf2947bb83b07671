"""From a request's path to the name of a file below a directory: decoded once, component by component.

Refused, so that no file system is ever asked about it:
- 400  a bad escape, a control byte or NUL
- 404  ``.`` and ``..`` however they are written, an encoded slash, an empty component, a name that begins with a dot
       (``.well-known`` of RFC 8615 excepted), more than NAME_MAX bytes in a component or PATH_MAX in all
A ``+`` is a plus; Kore makes a blank of it.
"""

from __future__ import annotations

import re

from gkore.errors import ProtocolError
from gkore.protocol.query import unescape

NAME_MAX, PATH_MAX = 255, 4000
SHOWN = frozenset((b".well-known",))

_control = re.compile(rb"[\x00-\x1f\x7f]").search


def file_path(path: str) -> bytes:
    """The bytes of a relative file name, which ends with a slash where ``path`` does. ProtocolError 400, 404."""
    raw = path.encode("latin-1", "replace")
    if len(raw) > PATH_MAX:
        raise ProtocolError(404, "no file has such a name")
    parts = raw.split(b"/")
    decoded = [component(part) for part in parts[:-1]]
    if parts[-1]:
        decoded.append(component(parts[-1]))
    elif decoded:
        decoded.append(b"")
    return b"/".join(decoded)


def component(raw: bytes) -> bytes:
    name = unescape(raw)
    if name is None or _control(name):
        raise ProtocolError(400, "a path with a bad escape or a control byte")
    if not name or b"/" in name or len(name) > NAME_MAX or (name.startswith(b".") and name not in SHOWN):
        raise ProtocolError(404, "no file has such a name")
    return name
