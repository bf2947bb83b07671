"""Make the standard library cooperate, before any of the user's code is imported.

Order matters and is the whole of this file: the master's modules have taken the unpatched ``os``, ``select`` and
``signal`` functions that they need by then, no hub is made here, and psycopg2 learns to wait on the hub through
psycogreen.
"""

from __future__ import annotations

from gevent import monkey


def patch() -> None:
    """Monkey-patch the standard library and psycopg2 for gevent; a second call does nothing.

    Signals stay Python's own: the worker watches the few that it needs through its hub.
    """
    if monkey.is_module_patched("socket"):
        return
    monkey.patch_all(signal=False)
    from psycogreen.gevent import patch_psycopg

    patch_psycopg()
