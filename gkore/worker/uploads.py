"""``req.populate_multi``: a multipart form's fields as parameters, its files as ``kore.http_file``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gkore.protocol.multipart import BOUNDS, Field, FormParser, Read, Span, find_parts
from gkore.worker.body import reader

if TYPE_CHECKING:
    from gkore.worker.request import Request


class HttpFile:
    """One uploaded file (``kore.http_file``)."""

    __slots__ = ("_offset", "_read", "_span", "content_type", "filename", "name")

    def __init__(self, span: Span, read: Read) -> None:
        file = span.file
        self.name = file.name
        """The form's field."""
        self.filename = file.filename
        """The client's name for it, without directories."""
        self.content_type = file.content_type
        """What the client says that it is, lower case. Ours."""
        self._span = span
        self._read = read
        self._offset = span.start

    @property
    def size(self) -> int:
        """Its bytes. Ours."""
        return self._span.end - self._span.start

    def read(self, length: int) -> tuple[int, bytes]:
        """Up to ``length`` bytes as ``(count, data)``, ``(0, b"")`` at the end. ValueError when negative."""
        if length < 0:
            raise ValueError("read: a length can't be negative")
        data = self._read(self._offset, min(length, self._span.end - self._offset))
        self._offset += len(data)
        return len(data), data

    def __repr__(self) -> str:
        return f"<kore.http_file {self.name}: {self.filename}, {self.size} bytes>"


def read_form(request: Request, maximum: int) -> tuple[list[tuple[str, str]], dict[str, HttpFile]]:
    """The fields and, by name, the files of a multipart body; the first of a name counts. ProtocolError 400, 413.

    A body that isn't a multipart form has neither, as in Kore. Files stay where they are: in the body, on disk or not.
    """
    fields: list[tuple[str, str]] = []
    files: dict[str, HttpFile] = {}
    content_type = (request.fields.get(b"content-type") or b"").decode("latin-1")
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        return fields, files
    parser = FormParser(content_type, BOUNDS._replace(parts=maximum))
    read = reader(request.content, request.spool)
    for part in find_parts(parser, read):
        if isinstance(part, Field):
            fields.append((part.name, part.value))
        else:
            files.setdefault(part.file.name, HttpFile(part, read))
    return fields, files
