"""Memory that malloc keeps, instead of giving it back to the kernel and asking for it again.

glibc returns what is free at the top of the heap as soon as it exceeds 128 KiB, and maps every larger block by itself.
A worker allocates and frees blocks of about that size all the time (what a recv may bring, a body, a message), and each
return costs two system calls and a page fault for every 4 KiB that is touched again: of an echo of 64 KiB that was 38 %
of all CPU time. So a worker keeps up to KEPT bytes, for its whole life.
"""

from __future__ import annotations

import ctypes
from typing import Final

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""mallopt(3)."""
KEPT: Final = 8 * 1024 * 1024
MAPPED_FROM: Final = 2 * 1024 * 1024
"""Larger blocks are mapped and unmapped each time: what touches as much costs more than that."""

_mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
RECV: Final = 65536 if _mallopt is None else 262144
"""What one recv asks for. A body of 1 MiB costs an eighth less in pieces of 256 KiB, which is as quick as 64 KiB for
small requests where malloc keeps the block; where it maps and unmaps it each time, that takes 30 us (musl)."""


def keep() -> None:
    """Have malloc keep memory in this process; without effect where the C library has no mallopt (musl)."""
    if _mallopt is not None:
        _mallopt(TRIM_THRESHOLD, KEPT)
        _mallopt(MMAP_THRESHOLD, MAPPED_FROM)
