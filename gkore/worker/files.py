"""Files that are served, kept open or in memory for as long as they stay the same.

A file is looked at again when it is asked for in another second than before: a second is how stale an answer can be.
Small ones are kept as bytes, larger ones as descriptors; when there are too many of either, all are let go.
"""

from __future__ import annotations

import errno
import os
import stat
from posix import close  # not os.close: see log
from typing import NamedTuple

from gkore import log
from gkore.errors import ProtocolError
from gkore.protocol.conditional import format_date, make_etag
from gkore.worker.beneath import Root

SMALL = 65536
"""Bytes of a file that is kept in memory."""
MEMORY_MAX = 16 * 1024 * 1024
OPEN_MAX = 128
"""Descriptors: a sixth of worker_rlimit_nofiles by default."""
KNOWN_MAX = 4096
CODINGS = {"zstd": b".zst", "br": b".br", "gzip": b".gz"}
"""Best first: what a sibling's suffix says about its coding."""

_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO)


class Stamp(NamedTuple):
    """What tells one state of a file from another."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


class IsFolder(Exception):
    """The name is a directory's."""


class File:
    """One file in one state."""

    __slots__ = ("checked", "codings", "content", "descriptor", "etag", "lines", "modified", "name", "size", "stamp")

    def __init__(self, name: bytes, descriptor: int, stamp: Stamp, coding: str) -> None:
        self.name = name
        self.descriptor = descriptor
        self.stamp = stamp
        self.size = stamp.size
        self.modified = int(stamp.modified // 1_000_000_000)
        tag = make_etag(stamp.size, stamp.modified)
        self.etag = f'{tag[:-1]}-{coding}"' if coding else tag
        self.checked = -1
        self.codings: tuple[str, ...] = ()
        self.lines: list[bytes] | None = None
        """The header fields of its answers, once they were made."""
        self.content: bytes | None = None
        if stamp.size <= SMALL:
            self.content = os.pread(descriptor, SMALL + 1, 0)
            self.size = len(self.content)
            close(descriptor)
            self.descriptor = -1

    @property
    def last_modified(self) -> str:
        return format_date(self.modified)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            close(self.descriptor)


Key = tuple[Root, bytes, str]


class Files:
    """The files of one worker."""

    __slots__ = ("_bytes", "_known", "_open")

    def __init__(self) -> None:
        self._known: dict[Key, File] = {}
        self._bytes = 0
        self._open = 0

    def find(self, root: Root, name: bytes, now: int, coding: str = "") -> File:
        """The file ``name`` below ``root``, as of this second; with ``coding`` its sibling. OSError, or IsFolder."""
        key = (root, name, coding)
        file = self._known.get(key)
        if file is not None and file.checked == now:
            return file
        descriptor = root.open(name + CODINGS[coding] if coding else name)
        try:
            stamp = stamped(os.fstat(descriptor))
            if file is None or file.stamp != stamp:
                file = File(name, os.dup(descriptor), stamp, coding)
                self._keep(key, file)
        finally:
            close(descriptor)
        file.checked = now
        if not coding:
            codings = tuple(one for one in CODINGS if self._has(root, file, one, now))
            if codings != file.codings:
                file.codings, file.lines = codings, None
        return file

    def _has(self, root: Root, file: File, coding: str, now: int) -> bool:
        """Whether there is a sibling, and it is no older than the file."""
        try:
            return self.find(root, file.name, now, coding).stamp.modified >= file.stamp.modified
        except (OSError, IsFolder):
            return False

    def _keep(self, key: Key, file: File) -> None:
        self._bytes += file.size if file.content is not None else 0
        self._open += file.descriptor >= 0
        if self._bytes > MEMORY_MAX or self._open > OPEN_MAX or len(self._known) >= KNOWN_MAX:
            self._known.clear()  # who is sending one keeps it until it is sent
            self._bytes = file.size if file.content is not None else 0
            self._open = int(file.descriptor >= 0)
        self._known[key] = file


def stamped(found: os.stat_result) -> Stamp:
    """IsFolder for a directory, FileNotFoundError for what is no regular file: devices, FIFOs, sockets."""
    if stat.S_ISDIR(found.st_mode):
        raise IsFolder
    if not stat.S_ISREG(found.st_mode):
        raise FileNotFoundError(errno.ENOENT, "not a regular file")
    return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def refusal(failure: OSError, path: str) -> ProtocolError:
    """What a client is told about a file that can't be opened."""
    if failure.errno in _MISSING:
        return ProtocolError(404, "no such file")
    if failure.errno in (errno.EACCES, errno.EPERM):
        return ProtocolError(403, "not readable")
    status = 503 if failure.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM) else 500
    hint = "; raise worker_rlimit_nofiles" if failure.errno == errno.EMFILE else ""
    log.error(f"filemap: {path} can't be opened, its client gets {status}: {failure.strerror}{hint}")
    return ProtocolError(status, failure.strerror or "can't open a file")
