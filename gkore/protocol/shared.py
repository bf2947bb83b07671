"""Memory that master and workers share, of a size that nobody can change any more.

Whoever touches a mapping behind the end of its file gets SIGBUS: a worker that shrank it would end the master.
"""

from __future__ import annotations

import os
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, fcntl


def share(name: str, size: int) -> int:
    """A descriptor of ``size`` zeros. OSError as memfd_create(2)."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
    return descriptor
