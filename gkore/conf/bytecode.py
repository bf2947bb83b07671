"""Python's cached bytecode, trusted only when it can't be older than its source.

A ``.pyc`` names its source by size and by a time of modification in whole seconds. Code that is edited, loaded, and
edited again within a second to the same length would be served as it was: a reload would say that all is well and
change nothing. So bytecode of a file that was written just now is neither read nor written; git calls such entries of
its index racy, and mends them in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from typing import Any

FRESH = 2.0
"""Seconds that a file must be old: one of a .pyc's resolution, one of a file system's that keeps times coarsely."""

_path_stats = SourceFileLoader.path_stats


def path_stats(self: SourceFileLoader, path: str) -> Mapping[str, Any]:
    """As SourceFileLoader's. OSError, which importlib takes for "don't cache", when the file was written just now."""
    stats = _path_stats(self, path)
    if abs(time.time() - stats["mtime"]) < FRESH:
        raise OSError(f"{path} was written just now: no bytecode of it can be trusted")
    return stats


def distrust_fresh() -> None:
    """From now on, for every import of this process."""
    SourceFileLoader.path_stats = path_stats  # type: ignore[method-assign]
