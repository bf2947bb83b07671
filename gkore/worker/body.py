"""Bodies that don't belong in memory: kept there up to ``http_body_disk_offload`` bytes, beyond that in a file.

The file has no name (O_TMPFILE) until ``req.body_path`` asks for one, so that no end of a worker, however sudden,
leaves one behind; a name that was given out is removed with the request. Kore's file is named from the start.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from posix import close  # not os.close: see log
from secrets import token_hex

import gevent

from gkore import log
from gkore.errors import ProtocolError, StartError

PIECE = 262144
"""Bytes read at once from a file; between two of them others get their turn."""
FORM_MAX = 16 * 1024 * 1024
"""An urlencoded form is read as a whole: more than this of it is refused."""
FORM_TOO_LARGE = (
    f"an urlencoded form of {{}} bytes, and {FORM_MAX} at most are read from disk: "
    "let clients send multipart/form-data, or read it with req.body_read"
)


class Storage:
    """Where large bodies go: above ``threshold`` bytes (0: never) to a file in ``directory``."""

    __slots__ = ("directory", "threshold")

    def __init__(self, threshold: int, directory: str) -> None:
        self.threshold = threshold
        self.directory = directory

    def prepare(self) -> None:
        """Make the directory (mode 0700, as Kore). StartError when it can't be used."""
        if not self.threshold:
            return
        try:
            os.makedirs(self.directory, 0o700, exist_ok=True)
            unnamed(self.directory).close()
        except OSError as failure:
            raise StartError(f"http_body_disk_path {self.directory}: {failure.strerror}") from None


class Stored:
    """A file without a name, closed when it is forgotten."""

    __slots__ = ("descriptor", "directory", "name", "size")

    def __init__(self, descriptor: int, directory: str, name: str = "") -> None:
        self.descriptor = descriptor
        self.directory = directory
        self.name = name
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append ``data``. ProtocolError 500 when the disk is full, as in Kore."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.descriptor, view) :]
            except OSError as failure:
                _tell(self.directory, failure)
                raise ProtocolError(500, "no room for a body") from None
        self.size += len(data)

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer only at the end. ValueError once it is closed."""
        if self.descriptor < 0:
            raise ValueError("the request is over, and its files are gone: read them before the handler ends")
        if length <= PIECE:
            return os.pread(self.descriptor, length, offset)
        pieces = []
        while length > 0 and (piece := os.pread(self.descriptor, min(length, PIECE), offset)):
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return b"".join(pieces)

    @property
    def path(self) -> str:
        """A name for the file, from now until ``close``."""
        if not self.name:
            name = os.path.join(self.directory, f"http_body.{token_hex(6)}")
            # open(2) on O_TMPFILE: /proc's entry, followed, stands for the file. Only with a directory descriptor,
            # which an absolute path leaves unused, does Python call linkat(2), the one that can follow.
            os.link(f"/proc/self/fd/{self.descriptor}", name, src_dir_fd=self.descriptor, follow_symlinks=True)
            self.name = name
        return self.name

    def close(self) -> None:
        """Forget the file; a second call does nothing."""
        if self.descriptor >= 0:
            close(self.descriptor)
            self.descriptor = -1
        if self.name:
            with suppress(OSError):
                os.unlink(self.name)
            self.name = ""

    def __del__(self) -> None:
        self.close()


def _tell(directory: str, failure: OSError) -> None:
    where = f"{directory} (http_body_disk_path)"
    log.seldom(directory, f"bodies of requests can't be kept in {where}: {failure.strerror}; their clients get 500")


def unnamed(directory: str) -> Stored:
    """A new file in ``directory``. OSError as open(2)."""
    try:
        flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
        return Stored(os.open(directory, flags, 0o600), directory)
    except OSError as failure:
        if failure.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
    # NFS, FUSE and old overlays have no O_TMPFILE: named from the start, then.
    name = os.path.join(directory, f"http_body.{token_hex(6)}")
    return Stored(os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), directory, name)


class Spool:
    """Bytes in the order in which they come: in memory, or once there are too many, in a file."""

    __slots__ = ("_pieces", "_storage", "file", "size")

    def __init__(self, storage: Storage, expected: int = 0) -> None:
        """``expected`` bytes will come (0: nobody knows): the file is made at once when they are too many."""
        self._storage = storage
        self._pieces: list[bytes] = []
        self.size = 0
        self.file: Stored | None = None
        if storage.threshold and expected > storage.threshold:
            self._offload()

    def write(self, piece: bytes) -> None:
        """Take one more piece. ProtocolError 500 when there is no room for it."""
        self.size += len(piece)
        if self.file is not None:
            self.file.write(piece)
            return
        self._pieces.append(piece)
        if self._storage.threshold and self.size > self._storage.threshold:
            self._offload()

    def _offload(self) -> None:
        try:
            self.file = unnamed(self._storage.directory)
        except OSError as failure:
            _tell(self._storage.directory, failure)
            raise ProtocolError(500, "no file for a body") from None
        for piece in self._pieces:
            self.file.write(piece)
        self._pieces.clear()

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer only at the end."""
        if self.file is not None:
            return self.file.read(offset, length)
        if len(self._pieces) > 1:
            self._pieces[:] = [b"".join(self._pieces)]
        return self._pieces[0][offset : offset + length] if self._pieces else b""

    def close(self) -> None:
        self._pieces.clear()
        if self.file is not None:
            self.file.close()


def pieces(content: bytes, spool: Spool | None) -> Iterator[bytes]:
    """The body piece by piece; while one of a file is read, others get their turn."""
    if spool is None:
        for offset in range(0, len(content), PIECE):
            yield content[offset : offset + PIECE]
        return
    offset = 0
    while piece := spool.read(offset, PIECE):
        yield piece
        offset += len(piece)
        if spool.file is not None:
            gevent.sleep(0)


def reader(content: bytes, spool: Spool | None) -> Callable[[int, int], bytes]:
    """Reads the body anywhere, ``reader(...)(offset, length)``; while much of a file is read, others get their turn."""
    if spool is None:
        return lambda offset, length: content[offset : offset + length]

    def read(offset: int, length: int) -> bytes:
        if length >= PIECE and spool.file is not None:
            gevent.sleep(0)
        return spool.read(offset, length)

    return read


def digest(content: bytes, spool: Spool | None) -> bytes:
    """SHA-256 of the body."""
    found = sha256()
    for piece in pieces(content, spool):
        found.update(piece)
    return found.digest()
