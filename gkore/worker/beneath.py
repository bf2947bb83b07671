"""Opening files beneath a directory: whatever the name, nothing outside of it is reached.

openat2(2) with RESOLVE_BENEATH lets the kernel judge every step, symbolic links included; a link that leads out is
refused. Kernels before 5.6, and sandboxes without that call, get the steps one by one, where no link is followed.
"""

from __future__ import annotations

import ctypes
import errno
import os
from posix import close  # not os.close: see log

from gkore import log

_SYS_OPENAT2 = 437
_NO_MAGICLINKS, _BENEATH = 0x02, 0x08
FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""O_NONBLOCK: a FIFO must not hold the worker; what isn't a regular file is closed again."""


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)


class Root:
    """A directory that files are served from."""

    __slots__ = ("_descriptor", "_open", "follow")

    def __init__(self, directory: str, follow: bool = False) -> None:
        """``follow``: symbolic links may lead out of it. OSError when it can't be opened."""
        self._descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.follow = follow
        self._open = self._open_anywhere if follow else self._open_beneath if has_openat2() else self._open_stepwise

    def open(self, name: bytes) -> int:
        """A descriptor for reading ``name``, relative and without dot components. OSError, EXDEV when it is outside."""
        return self._open(name)

    def _open_anywhere(self, name: bytes) -> int:
        return os.open(name or b".", FLAGS, dir_fd=self._descriptor)

    def _open_beneath(self, name: bytes) -> int:
        return openat2(self._descriptor, name or b".")

    def _open_stepwise(self, name: bytes) -> int:
        steps = [step for step in name.split(b"/") if step]
        at = os.open(b".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._descriptor)
        try:
            for step in steps[:-1]:
                below = os.open(step, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
                close(at)
                at = below
            only = os.O_DIRECTORY if name.endswith(b"/") else 0
            return os.open(steps[-1] if steps else b".", FLAGS | only | os.O_NOFOLLOW, dir_fd=at)
        finally:
            close(at)

    def close(self) -> None:
        close(self._descriptor)


def openat2(directory: int, name: bytes) -> int:
    """openat2(2) for reading, resolved beneath ``directory``. OSError."""
    how = _How(FLAGS, 0, _BENEATH | _NO_MAGICLINKS)
    while True:
        found: int = _libc.syscall(_SYS_OPENAT2, directory, name, ctypes.byref(how), ctypes.sizeof(how))
        if found >= 0:
            return found
        number = ctypes.get_errno()
        if number not in (errno.EINTR, errno.EAGAIN):  # EAGAIN: a rename raced with the walk
            raise OSError(number, os.strerror(number))


def has_openat2() -> bool:
    """Whether the kernel has openat2 and lets us call it."""
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        close(openat2(here, b"."))
    except OSError as failure:
        if failure.errno in (errno.ENOSYS, errno.EPERM):
            log.notice("this kernel has no openat2: symbolic links below filemaps are not followed")
            return False
    finally:
        close(here)
    return True
