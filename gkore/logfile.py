"""A file that lines are appended to by several processes, and that may be rotated under them.

The master opens it before any worker gives its privileges up, and again after a rotation (SIGUSR1): the new file is
owned as the old one was, and workers, who could not open it, are handed its descriptor.
"""

from __future__ import annotations

import os
from contextlib import suppress
from posix import close  # not os.close: see log

from gkore.log import in_one_piece

FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
STDOUT = "-"
STAYS = "the old file is written on; mend that, and send SIGUSR1 again"
"""What becomes of a log that can't be opened again."""

_open: dict[str, LogFile] = {}


class LogFile:
    """One file; ``-`` is the standard output."""

    __slots__ = ("_directory", "_most", "_name", "descriptor", "path")

    def __init__(self, path: str) -> None:
        """OSError as open(2)."""
        self.path = path
        self._directory = -1
        self._name = os.path.basename(path)
        self.descriptor = 1
        if path != STDOUT:
            self._directory = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self.descriptor = os.open(self._name, FLAGS, 0o644, dir_fd=self._directory)
        self._most = in_one_piece(self.descriptor)

    def reopen(self) -> None:
        """Go on in the file that has the name now. OSError as open(2): then the old one is written on."""
        if self.path == STDOUT:
            return
        old = os.fstat(self.descriptor)
        descriptor = os.open(self._name, FLAGS, 0o644, dir_fd=self._directory)
        new = os.fstat(descriptor)
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            with suppress(PermissionError):
                os.fchown(descriptor, old.st_uid, old.st_gid)
        self.adopt(descriptor)
        close(descriptor)

    def adopt(self, descriptor: int) -> None:
        """Go on in that file."""
        os.dup2(descriptor, self.descriptor, inheritable=False)

    def write(self, data: bytes) -> None:
        """Append whole lines: in one piece, or into a pipe in as many as keep each line whole. OSError as write(2)."""
        while data:
            end = len(data)
            if end > self._most:
                end = data.rfind(b"\n", 0, self._most) + 1 or data.find(b"\n") + 1 or end
            data = data[os.write(self.descriptor, data[:end]) :]


def log_file(path: str) -> LogFile:
    """The file of that path: one for the whole process and its children. OSError as open(2)."""
    found = _open.get(path)
    if found is None:
        found = _open[path] = LogFile(path)
    return found


def log_files() -> list[LogFile]:
    """All files opened so far."""
    return list(_open.values())
