"""A file that is replaced whole or not at all: nobody finds half of it, not even after a power cut."""

from __future__ import annotations

import os
from contextlib import suppress
from posix import close  # not os.close: see log


def replace_file(name: str, data: bytes, mode: int = 0o600, folder: int | None = None) -> None:
    """Make ``name`` hold ``data``: written aside, synced, renamed. OSError; then the file is as it was.

    ``folder`` is the descriptor of the directory that a relative name is in.
    """
    aside = f"{name}.new"
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode, dir_fd=folder)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(aside, dir_fd=folder)
        raise
    _sync_directory(os.path.dirname(name) or ".", folder)


def _sync_directory(path: str, folder: int | None) -> None:
    """The name itself is safe only when its directory is (fsync(2))."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        close(descriptor)
