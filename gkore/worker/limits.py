"""Limits of one route, per worker: requests at once, requests per client address, seconds for the handler."""

from __future__ import annotations

from ipaddress import IPv6Address
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING, Any

from gevent import get_hub
from greenlet import getcurrent

from gkore import log
from gkore.conf.site import Rate
from gkore.errors import Overtime

if TYPE_CHECKING:
    from gkore.worker.request import Request

ADDRESSES_MAX = 16384
"""Addresses that a rate limit remembers; then those that have rested are forgotten, and if there are none, all."""
RETRY_AFTER = 1
"""Seconds: what clients are told who came when too many were being served."""


class Concurrency:
    """At most ``most`` requests in the handler."""

    __slots__ = ("most", "running")

    def __init__(self, most: int) -> None:
        self.most = most
        self.running = 0

    def enter(self, request: Request) -> bool:
        """Count the request in, or answer 503 and say False."""
        if self.running >= self.most:
            action = request.action
            text = f"{self.most} requests are in handler {action.name} (concurrency in its route): others get 503"
            log.seldom(f"concurrency {action.name}", text)
            request.fail(503, (("retry-after", str(RETRY_AFTER)),))
            return False
        self.running += 1
        return True

    def leave(self) -> None:
        self.running -= 1


class TokenBuckets:
    """A rate for every client address: a bucket of ``rate.most`` tokens that fills up in ``rate.seconds``."""

    __slots__ = ("_buckets", "_most", "_speed")

    def __init__(self, rate: Rate) -> None:
        self._most = float(rate.most)
        self._speed = rate.most / rate.seconds
        self._buckets: dict[str, tuple[float, float]] = {}

    def gate(self, request: Request) -> bool:
        """True when there was a token; else 429 is answered, with the seconds until there will be one."""
        wait = self.take(client_key(request.client), monotonic())
        if wait <= 0:
            return True
        request.fail(429, (("retry-after", str(ceil(wait))),))
        return False

    def take(self, key: str, now: float) -> float:
        """Take a token: 0 when there was one, else the seconds until there is."""
        tokens, then = self._buckets.get(key) or (self._most, now)
        tokens = min(self._most, tokens + (now - then) * self._speed)
        if tokens < 1:
            return (1 - tokens) / self._speed
        if len(self._buckets) >= ADDRESSES_MAX and key not in self._buckets:
            self._forget(now)
        self._buckets[key] = (tokens - 1, now)
        return 0.0

    def _forget(self, now: float) -> None:
        rest = self._most / self._speed
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if now - bucket[1] < rest}
        if len(self._buckets) >= ADDRESSES_MAX:
            self._buckets.clear()


def client_key(address: str) -> str:
    """What counts as one client: an IPv4 address, or the 64 bits of IPv6 that one customer is given as a whole."""
    if ":" not in address:
        return address
    return str(int(IPv6Address(address.partition("%")[0])) >> 64)


class Deadline:
    """``with Deadline(5): ...`` ends with Overtime in the running task once the seconds are over.

    It can only strike while the task waits: a handler that computes without a pause is the watchdog's.
    """

    __slots__ = ("_overtime", "_timer")

    def __init__(self, seconds: float) -> None:
        self._timer: Any = get_hub().loop.timer(seconds)
        self._overtime = Overtime(f"{seconds:g} s are over")

    def __enter__(self) -> None:
        self._timer.start(getcurrent().throw, self._overtime, update=True)

    def __exit__(self, *_: object) -> None:
        self._timer.close()


def overrun(request: Request, late: Overtime) -> None:
    """The handler was ended by its deadline: tell the log, and the client if it has heard nothing."""
    answer = f"was answered with {request.status} before" if request.status else "gets 503"
    what = f"handler {request.action.name} for {request.line.path} was ended: {late} (timeout in its route)"
    log.error(f"{what}; the client {answer}")
    if not request.status:
        request.fail(503, (("retry-after", str(RETRY_AFTER)),))
