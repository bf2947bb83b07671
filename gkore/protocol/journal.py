"""Lines of access logs on their way to their files: in memory that the master reads too, so that no death loses one.

A worker copies each line behind the last one and writes a page out once a second, or when it is full. What stands
there when the worker is gone, however it went, the master writes. One page a log file; behind the last line are zeros,
which no line contains, so nobody has to keep count: that is why a line costs 0.1 us here and no more.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from posix import close  # not os.close: see log
from typing import Any

from gkore.protocol.shared import share

PAGE = 65536
"""Bytes of lines that wait at most, for one file in one worker."""


class Journal:
    """The pages of one worker: made by the master before the fork, so that both have the descriptor."""

    __slots__ = ("descriptor", "paths")

    def __init__(self, paths: Sequence[str], descriptor: int | None = None) -> None:
        """``descriptor`` is that of a journal made by the program before. OSError as memfd_create(2)."""
        self.paths = list(paths)
        if descriptor is None:
            descriptor = share("gkore-journal", len(self.paths) * PAGE)
        self.descriptor = descriptor

    def page(self, path: str) -> mmap.mmap:
        """Where the lines for one file wait. ValueError when the master knows no such file."""
        return mmap.mmap(self.descriptor, PAGE, offset=self.paths.index(path) * PAGE)

    def unwritten(self) -> Iterator[tuple[str, bytes]]:
        """For each file the whole lines that its worker did not write."""
        for number, path in enumerate(self.paths):
            lines = os.pread(self.descriptor, PAGE, number * PAGE).partition(b"\0")[0]
            end = lines.rfind(b"\n") + 1  # killed in the middle of a copy
            if end:
                yield path, lines[:end]

    def close(self) -> None:
        close(self.descriptor)

    def bequeath(self) -> dict[str, Any]:
        """The journal as plain data, for the next program of the master."""
        return {"paths": self.paths, "descriptor": self.descriptor}

    @classmethod
    def inherit(cls, entry: dict[str, Any]) -> Journal:
        """The journal that ``bequeath`` gave."""
        os.set_inheritable(entry["descriptor"], False)
        return cls(entry["paths"], entry["descriptor"])


def blank(page: mmap.mmap) -> None:
    """The lines of a page are written: the first byte says so at once, even if this process ends the moment after."""
    used = page.tell()
    page[:1] = b"\0"
    page[:used] = bytes(used)
    page.seek(0)
