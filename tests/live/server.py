"""The real server for tests: gkore's own, see ``gkore.testing.server``."""

import os
from pathlib import Path

from gkore.testing.answer import Answer as Answer
from gkore.testing.server import DEADLINE as DEADLINE
from gkore.testing.server import Server as Server
from gkore.testing.server import server as server
from gkore.testing.server import until as until

REPOSITORY = Path(__file__).parents[2]
"""Where etc/ is; gkore itself may be imported from elsewhere."""


def opened(pid: int) -> list[str]:
    """What a process has open, as /proc calls it; what is closed while we look is left out."""
    found = []
    for entry in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{entry}"))
        except FileNotFoundError:
            continue
    return found
