"""Static files: ``filemap /url/ directory``, and ``asset_serve_NAME_EXT`` of Kore 3.2.

    GET, HEAD of a file          200, with etag, last-modified, accept-ranges
    conditional, Range           304, 412, 206, 416 (RFC 9110 sections 13 and 14)
    Accept-Encoding              name.zst, name.br or name.gz beside the file, when not older
    a directory without its /    302 to it with one; with it: ``filemap_index``, else 404
    a missing file               once more with ``filemap_ext``

A small file is sent from memory like any short answer, a larger one by sendfile. Kore serves no empty files, no links,
no ranges, and neighbours of its directory.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex
from time import time
from typing import TYPE_CHECKING, Any

from gkore.errors import ProtocolError
from gkore.protocol.conditional import evaluate, range_applies
from gkore.protocol.filepath import file_path
from gkore.protocol.mediatype import MEDIA_TYPES, media_type
from gkore.protocol.negotiation import IDENTITY, choose_coding
from gkore.protocol.ranges import Range, content_range, parse_range, part_heads
from gkore.protocol.response import header_line
from gkore.worker.beneath import Root
from gkore.worker.files import File, Files, IsFolder, refusal

if TYPE_CHECKING:
    from gkore.worker.request import Request

HEAD = 32
PATHS_MAX = 4096
CONDITIONS = frozenset(
    (b"range", b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since", b"if-range")
)

Serve = Callable[["Request"], None]


class FileMap:
    """The files below one url."""

    __slots__ = ("_extension", "_files", "_index", "_paths", "_root", "_types", "directory", "url")

    def __init__(self, url: str, directory: str, files: Files, settings: Any) -> None:
        """OSError when the directory can't be opened."""
        self.url = url
        self.directory = directory
        self._root = Root(directory, settings.filemap_follow)
        self._files = files
        self._types = {**MEDIA_TYPES, **settings.http_media_type}
        self._index = settings.filemap_index.encode()
        self._extension = settings.filemap_ext.encode()
        self._paths: dict[str, Serve] = {}

    def handler(self, path: str) -> Serve:
        """What serves ``path``, which begins with the url."""
        found = self._paths.get(path)
        if found is None:
            if len(self._paths) >= PATHS_MAX:
                self._paths.clear()
            found = self._paths[path] = StaticPath(self, path[len(self.url) :]).serve
        return found

    def find(self, name: bytes, now: int) -> File:
        """The file that a name stands for. ProtocolError 403, 404; IsFolder where a slash is missing."""
        if not name or name.endswith(b"/"):
            name += self._index
        try:
            return self._files.find(self._root, name, now)
        except FileNotFoundError as failure:
            if not self._extension:
                raise refusal(failure, self.directory) from None
        except OSError as failure:
            raise refusal(failure, f"{self.directory}/{name.decode('utf-8', 'replace')}") from None
        try:
            return self._files.find(self._root, name + self._extension, now)
        except IsFolder:
            raise ProtocolError(404, "no such file") from None
        except OSError as failure:
            raise refusal(failure, self.directory) from None

    def sibling(self, file: File, coding: str, now: int) -> File:
        return self._files.find(self._root, file.name, now, coding)

    def lines(self, file: File, coding: str, coded: bool) -> list[bytes]:
        """The header fields of a file's answer, as bytes."""
        kind = media_type(file.name, self._types)
        fields = [header_line("content-type", kind)] if kind else []
        fields.append(header_line("last-modified", file.last_modified))
        fields.append(header_line("etag", file.etag))
        fields.append(b"accept-ranges: bytes\r\n")
        if coded:
            fields.append(b"vary: accept-encoding\r\n")
        if coding:
            fields.append(header_line("content-encoding", coding))
        file.lines = [b"".join(fields)]
        return file.lines


class StaticPath:
    """One path that was asked for."""

    __slots__ = ("_map", "_name", "_path")

    def __init__(self, where: FileMap, path: str) -> None:
        self._map = where
        self._path = path
        self._name: bytes | None = None

    def serve(self, request: Request) -> None:
        """Answer ``request`` with the file."""
        try:
            self._serve(request)
        except ProtocolError as refused:
            request.fail(refused.status, refused.headers)
        except IsFolder:
            if self._path.endswith("/") or not self._path:
                request.fail(404)
                return
            query = f"?{request.query}" if request.line.query else ""
            request.fail(302, (("location", f"{request.path}/{query}"),))

    def _serve(self, request: Request) -> None:
        now = request.connection.clock.now
        name = self._name
        if name is None:
            name = self._name = file_path(self._path)
        file = self._map.find(name, now)
        coding = ""
        coded = bool(file.codings)
        if coded:
            accepted = (request.fields.get(b"accept-encoding") or b"").decode("latin-1")
            chosen = choose_coding(accepted, file.codings)
            if chosen != IDENTITY:
                coding = chosen
                file = self._map.sibling(file, coding, now)
        lines = file.lines or self._map.lines(file, coding, coded)
        request._extra = lines
        if request.fields.any_of(CONDITIONS):
            answer_conditional(request, file)
        elif file.content is not None:
            request.response(200, file.content)
        else:
            send_span(request, 200, file, (0, file.size - 1))


def answer_conditional(request: Request, file: File) -> None:
    """Answer with what the preconditions and the ranges leave. ProtocolError 416."""
    now, fields = time(), request.fields
    status = evaluate(request.line.verb, fields, file.etag, file.modified, now)
    if status != 200:
        request.response(status, b"")
        return
    wanted = fields.get(b"range")
    if wanted is None or request.line.verb != b"GET" or not range_applies(fields, file.etag, file.modified, now):
        send_span(request, 200, file, (0, file.size - 1))
        return
    try:
        ranges = parse_range(wanted.decode("latin-1"), file.size)
    except ProtocolError as refused:
        headers = (("content-range", content_range(None, file.size)),)
        raise ProtocolError(416, str(refused), headers) from None
    if ranges is None:
        send_span(request, 200, file, (0, file.size - 1))
    elif len(ranges) == 1:
        extra(request, f"content-range: {content_range(ranges[0], file.size)}\r\n")
        send_span(request, 206, file, ranges[0])
    else:
        send_parts(request, file, ranges)


def extra(request: Request, line: str) -> None:
    request._extra = [*(request._extra or ()), line.encode("latin-1")]


def send_span(request: Request, status: int, file: File, span: Range) -> None:
    """Answer with the bytes from ``span[0]`` to ``span[1]``, both included."""
    first, last = span
    length = last + 1 - first
    if file.content is not None:
        request.response(status, file.content[first : last + 1])
        return
    head = request.start(status, b"content-length: %d\r\n" % length)
    request.status = status
    request.sent = length
    if not request.connection.put(head, more=request.line.method != HEAD) or request.line.method == HEAD:
        return
    whole(request, request.connection.send_file(file.descriptor, first, length), length)


def send_parts(request: Request, file: File, ranges: list[Range]) -> None:
    """Answer with several ranges, as multipart/byteranges (RFC 9110 section 14.6)."""
    boundary = token_hex(12)
    old = b"".join(request._extra or ())
    kind = b"".join(line for line in old.splitlines(keepends=True) if line.startswith(b"content-type:"))
    inner = kind.partition(b":")[2].strip().decode("latin-1")
    request._extra = [old.replace(kind, b"") if kind else old]
    extra(request, f"content-type: multipart/byteranges; boundary={boundary}\r\n")
    heads, end, length = part_heads(ranges, file.size, inner, boundary)
    connection = request.connection
    head = request.start(206, b"content-length: %d\r\n" % length)
    request.status = 206
    request.sent = length
    connection.put(head, more=True)
    for part, (first, last) in zip(heads, ranges, strict=True):
        connection.put(part, more=True)
        if file.content is not None:
            connection.put(file.content[first : last + 1], more=True)
        else:
            whole(request, connection.send_file(file.descriptor, first, last + 1 - first), last + 1 - first)
    connection.put(end)


def whole(request: Request, sent: int, length: int) -> None:
    """A file that shrank while it was sent: the client must see that something is missing."""
    if sent < length:
        request.connection.lost = True
