"""What a worker says when it crashes: faulthandler writes it here, and the master, which reads it, into the log.

In the log itself the lines would have no head, no syslog and no daemon would get them, and other processes' lines would
stand between their pieces: faulthandler writes each word on its own.
"""

from __future__ import annotations

import os
from posix import close  # not os.close: see log
from typing import Any

from gkore.protocol.shared import share

SIZE = 1 << 18
"""Bytes, of which none are used before they are written: a thread's stack takes at most 60,000."""


class LastWords:
    """One worker's: made by the master before the fork, so that both have the descriptor."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int | None = None) -> None:
        """``descriptor`` is that of one made by the program before. OSError as memfd_create(2)."""
        self.descriptor = share("gkore-last-words", SIZE) if descriptor is None else descriptor

    def read(self) -> str:
        """What has been said; "" by those who did not crash."""
        said = os.pread(self.descriptor, SIZE, 0).rstrip(b"\0").decode("utf-8", "replace")
        return "\n".join(filter(None, said.splitlines()))

    def close(self) -> None:
        close(self.descriptor)

    def bequeath(self) -> dict[str, Any]:
        """This as plain data, for the next program of the master."""
        return {"descriptor": self.descriptor}

    @classmethod
    def inherit(cls, entry: dict[str, Any]) -> LastWords:
        os.set_inheritable(entry["descriptor"], False)
        return cls(entry["descriptor"])
