"""Log files opened again after a rotation, by the one who may: everybody else is handed the descriptors.

A worker may be in a chroot, another user, or out of reach of the files' directory (``landlock``); the key manager may
open nothing at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gkore import log
from gkore.logfile import STAYS, STDOUT, log_files
from gkore.protocol.bus import MASTER, Envelope, Kind

if TYPE_CHECKING:
    from gkore.master.acme import Acme
    from gkore.master.fleet import Fleet

AT_ONCE = 200
"""The kernel takes 253 descriptors with one message (SCM_MAX_FD, unix(7))."""


def rotate(fleet: Fleet, acme: Acme) -> None:
    """Open the log files again under their names, and have all processes go on in them."""
    reopen()
    descriptors = dict(opened())
    names = list(descriptors)
    for child in fleet.children.values():
        for begin in range(0, len(names), AT_ONCE):
            some = names[begin : begin + AT_ONCE]
            envelope = Envelope(Kind.LOGS, MASTER, child.slot, json.dumps(some).encode())
            if not child.line.send(envelope, [descriptors[name] for name in some]):
                log.error(f"{child} does not listen: it writes on into the old log files; send SIGUSR1 again")
    if "" in descriptors:
        fleet.keymgr.log_to(descriptors[""])
        acme.log_to(descriptors[""])


def reopen() -> None:
    """This process's own."""
    for file in log_files():
        try:
            file.reopen()
        except OSError as failure:
            log.error(f"access log {file.path} can't be opened again: {failure.strerror}; {STAYS}")
    if log.log.path:
        try:
            log.log.open(log.log.path)
        except OSError as failure:
            log.error(f"logfile {log.log.path} can't be opened again: {failure.strerror}; {STAYS}")


def opened() -> Iterator[tuple[str, int]]:
    """The files by their names, the log itself as ""."""
    if log.log.path and log.log.descriptor is not None:
        yield "", log.log.descriptor
    yield from ((file.path, file.descriptor) for file in log_files() if file.path != STDOUT)
