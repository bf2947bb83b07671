"""When the next try is due. Times are seconds since 1970 by the wall clock, as certificates have them.

Let's Encrypt allows 5 failed validations an account, name and hour: of our own accord we make at most 4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256

HOUR, DAY = 3600.0, 86400.0
REFUSED_FIRST, REFUSED_FACTOR, REFUSED_MAX = 60.0, 4.0, DAY / 2
"""1, 4, 16, 64 minutes, ... 12 hours: 4 tries in the first hour."""
UNREACHABLE_FIRST, UNREACHABLE_MAX = 2.0, 600.0
"""Who was not reached has counted nothing: ask again soon, doubled up to 10 minutes."""
TRIES_MAX = 4
"""An hour, when a reload or a restart asks for another try at once."""
LIMITED = HOUR
"""After ``rateLimited`` at least so long."""
JITTER = 1 / 30
"""Of the lifetime: 3 days of 90."""
RETRY_AFTER = re.compile(r"retry after (\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d) ?(?:UTC|Z)")


def renewal(begins: float, ends: float, chain: str) -> float:
    """When to renew: at two thirds of the lifetime, or a little before, so that not all sites do it in one minute.

    The jitter is drawn from the certificate itself: restarts don't move it.
    """
    share = int.from_bytes(sha256(chain.encode()).digest()[:4]) / 2**32
    return begins + (ends - begins) * (2 / 3 - JITTER * share)


def pause(failures: int, code: str, text: str, now: float) -> float:
    """Seconds until the next try after the n-th failure in a row; ``code`` is the problem's (RFC 8555 6.7), or ""."""
    exponent = min(failures - 1, 30)
    if code == "unreachable":
        return min(UNREACHABLE_MAX, UNREACHABLE_FIRST * 2.0**exponent)
    wait = min(REFUSED_MAX, REFUSED_FIRST * REFUSED_FACTOR**exponent)
    if code == "rateLimited":
        wait = max(wait, LIMITED, _named(text) - now)
    return wait


def _named(text: str) -> float:
    """The time that Let's Encrypt writes into the problem, because Retry-After does not reach us; 0 without one."""
    found = RETRY_AFTER.search(text)
    if found is None:
        return 0.0
    return datetime.fromisoformat(f"{found[1]}T{found[2]}").replace(tzinfo=UTC).timestamp()


def resumed(due: float, code: str, tries: Iterable[float], now: float) -> float:
    """When to try after a restart: at once, since the operator may have mended it, unless it was tried too often."""
    if code == "rateLimited":
        return due
    recent = sorted(moment for moment in tries if now - HOUR < moment <= now)
    if len(recent) < TRIES_MAX:
        return min(due, now)
    return min(due, recent[-TRIES_MAX] + HOUR)
