"""Log files that the master has opened again (SIGUSR1): this worker goes on in them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from posix import close  # not os.close: see log
from typing import TYPE_CHECKING

from gkore import log
from gkore.logfile import log_files

if TYPE_CHECKING:
    from gkore.worker.accesslog import AccessLog


def take(payload: bytes, descriptors: list[int], logs: Iterable[AccessLog]) -> None:
    """Put each descriptor in the place of the file whose name stands in the payload; the log's own is ""."""
    names = json.loads(payload)
    if len(names) != len(descriptors):  # out of descriptors, or the master was replaced in that moment
        log.error("the log files could not be taken over: the old ones are written on; send SIGUSR1 again")
        names = []
    for access_log in logs:
        access_log.flush()  # what was answered before belongs into the old file
    files = {file.path: file for file in log_files()}
    for name, descriptor in zip(names, descriptors, strict=False):
        if name == "":
            log.log.adopt(descriptor)
        elif name in files:
            files[name].adopt(descriptor)
    for descriptor in descriptors:
        close(descriptor)
