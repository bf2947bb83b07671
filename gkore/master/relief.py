"""One master relieves another: how ``gkore run`` gets new code served without a cold start.

A reload in production is an ``exec`` (see ``reload``). In development a warm process, which never imports the project,
forks the next master beside the one that serves, and they change over:

    the next one says          built        its application is complete; it waits for what the other holds
    the serving one is told    hand over    with a socket: it sends addresses, control socket and metrics there
    the next one says          ready        its workers accept on the same sockets
    the other is told          retire       its workers drain; it ends, and takes nothing away

Until it is ready the next master is a deputy: should it fail, whatever it inherited stays for the one that serves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from select import POLLIN, poll
from socket import recv_fds, send_fds, socket
from typing import Any

from gkore import log
from gkore.master.reload import descriptors
from gkore.protocol.bus import reason

DESCRIPTORS_MAX = 253
"""SCM_MAX_FD: more don't fit into one message (unix(7))."""
MESSAGE_MAX = 1 << 20
TIME_MAX = 10.0
"""Seconds for the serving master to hand over; a turn of its loop takes at most one."""
HANDED_ON = b"hand over"
RETIRE = b"retire"
FAILED = b"failed"


class Relief:
    """A master's line to the warm process; ``other`` is where the master that serves hands over, None for the first."""

    events = POLLIN

    def __init__(self, line: socket, other: socket | None, describe: Callable[[], dict[str, Any]]) -> None:
        self.line = line
        self.bequeath: Callable[[], dict[str, Any]] = dict
        self.retire: Callable[[], object] = int
        self.failed: Callable[[str, str], object] = lambda why, _: log.error(why)
        self.abandoned: Callable[[], object] = int
        self.whereabouts: Callable[[], object] = list
        """Where a browser would look for this master, should it refuse."""
        self.first = True
        """Nothing of the application was served yet: the one before, if any, stood in."""
        self._other = other
        self._describe = describe

    def fileno(self) -> int:
        return self.line.fileno()

    def take_over(self) -> dict[str, Any] | None:
        """What the serving master holds, asked for now; None when there is none (any more)."""
        self._say("built")
        if self._other is None:
            return None
        with self._other as other:
            waiter = poll()
            waiter.register(other.fileno(), POLLIN)
            if not waiter.poll(TIME_MAX * 1000):
                return None
            text, handed, _, _ = recv_fds(other, MESSAGE_MAX, DESCRIPTORS_MAX)
        if not text:
            return None
        said = json.loads(text)
        heritage: dict[str, Any] = renumbered(said["heritage"], dict(zip(said["order"], handed, strict=True)))
        return heritage

    def ready(self, urls: list[str]) -> None:
        """All workers accept."""
        self._say("ready", urls=urls, **self._describe())

    def refuse(self, why: str) -> None:
        """This master ends without having served, and has logged why."""
        self._say("refused", why=reason(why).decode("utf-8", "replace"), servers=self.whereabouts(), **self._describe())

    def ask(self) -> None:
        """Somebody wants a reload (SIGHUP, ``gkore reload``)."""
        self._say("reload")

    def act(self, _: int) -> None:
        """Obey the warm process; without it nobody would ever reload again, so its end is ours."""
        word, handed, _, _ = recv_fds(self.line, MESSAGE_MAX, 1)
        if word == HANDED_ON and handed:
            self._hand_over(socket(fileno=handed[0]))
        elif word == RETIRE:
            self.retire()
        elif word.startswith(FAILED):
            said = word[len(FAILED) :].decode("utf-8", "replace")
            self.failed("what is wrong with the new code is said above; the old code is served", said)
        elif not word:
            self.abandoned()

    def _hand_over(self, other: socket) -> None:
        heritage = self.bequeath()
        order = list(dict.fromkeys(descriptors(heritage)))
        with other:
            try:
                send_fds(other, [json.dumps({"heritage": heritage, "order": order}).encode()], order)
            except OSError as failure:
                log.error(f"handing {len(order)} sockets over: {failure.strerror}; stop gkore run and start it again")

    def _say(self, what: str, **facts: Any) -> None:
        with suppress(OSError):  # the warm process is gone: act hears of it
            self.line.send(json.dumps({"what": what, **facts}, ensure_ascii=False).encode("utf-8", "replace"))


def renumbered(heritage: Any, numbers: dict[int, int], name: str = "") -> Any:
    """A heritage with the descriptors as this process calls them; ``reload.descriptors`` says where they are."""
    if isinstance(heritage, list):
        return [renumbered(entry, numbers, name) for entry in heritage]
    if isinstance(heritage, dict):
        inside = [(key, "sockets" if name == "sockets" else key) for key in heritage]
        return {key: renumbered(heritage[key], numbers, inner) for key, inner in inside}
    return numbers[heritage] if name in ("descriptor", "sockets", "waiting") and heritage is not None else heritage
