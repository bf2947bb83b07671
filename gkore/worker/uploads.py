"""``req.populate_multi``: a multipart form's fields as parameters, its files as ``kore.http_file``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gkore.protocol.multipart import BOUNDS, Field, File, FileEnd, FormParser
from gkore.worker.body import Spool, Storage, pieces

if TYPE_CHECKING:
    from gkore.worker.request import Request


class HttpFile:
    """One uploaded file (``kore.http_file``)."""

    __slots__ = ("_offset", "_spool", "content_type", "filename", "name")

    def __init__(self, file: File, spool: Spool) -> None:
        self.name = file.name
        """The form's field."""
        self.filename = file.filename
        """The client's name for it, without directories."""
        self.content_type = file.content_type
        """What the client says that it is, lower case. Ours."""
        self._spool = spool
        self._offset = 0

    @property
    def size(self) -> int:
        """Its bytes. Ours."""
        return self._spool.size

    def read(self, length: int) -> tuple[int, bytes]:
        """Up to ``length`` bytes as ``(count, data)``, ``(0, b"")`` at the end. ValueError when negative."""
        if length < 0:
            raise ValueError("read: a length can't be negative")
        data = self._spool.read(self._offset, length)
        self._offset += len(data)
        return len(data), data

    def __repr__(self) -> str:
        return f"<kore.http_file {self.name}: {self.filename}, {self.size} bytes>"


def read_form(request: Request, storage: Storage, maximum: int) -> tuple[list[tuple[str, str]], dict[str, HttpFile]]:
    """The fields and, by name, the files of a multipart body; the first of a name counts. ProtocolError 400, 413.

    A body that isn't a multipart form has neither, as in Kore. A file goes to disk where the body did.
    """
    fields: list[tuple[str, str]] = []
    files: dict[str, HttpFile] = {}
    content_type = (request.fields.get(b"content-type") or b"").decode("latin-1")
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        return fields, files
    parser = FormParser(content_type, BOUNDS._replace(parts=maximum))
    spool = Spool(storage)
    for piece in pieces(request.content, request.spool):
        for event in parser.feed(piece):
            if isinstance(event, bytes):
                spool.write(event)
            elif isinstance(event, Field):
                fields.append((event.name, event.value))
            elif isinstance(event, File):
                spool = Spool(storage)
                files.setdefault(event.name, HttpFile(event, spool))
            else:
                assert event is FileEnd.END
    parser.close()
    return fields, files
