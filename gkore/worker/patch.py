"""Make the standard library cooperate, before any of the user's code is imported.

Order matters and is the whole of this file: the master's modules have taken the unpatched ``os``, ``select`` and
``signal`` functions that they need by then, no hub is made here, and psycopg2 learns to wait on the hub through
psycogreen.
"""

from __future__ import annotations

import os
import signal

from gevent import monkey
from gevent._hub_local import get_hub_if_exists


def patch() -> None:
    """Monkey-patch the standard library and psycopg2 for gevent; a second call does nothing.

    Signals stay Python's own: the worker watches the few that it needs through its hub.
    """
    if monkey.is_module_patched("socket"):
        return
    monkey.patch_all(signal=False)
    from psycogreen.gevent import patch_psycopg

    patch_psycopg()


def hear_children() -> None:
    """Let a hub that the parent's own code has made hear of its children again, which the master kept from it.

    For the parent's last hook: ``subprocess`` waits for SIGCHLD there. The signal is sent once, for those ended since.
    """
    hub = get_hub_if_exists()
    if hub is not None:
        hub.loop.reset_sigchld()  # type: ignore[attr-defined]
        hub.loop.install_sigchld()
        os.kill(os.getpid(), signal.SIGCHLD)
