"""A door of the master's own: a listening socket and the few callers that came through it.

The control socket and ``metrics`` are such doors. A caller asks once, is answered and let go. The master never waits
for one: what a caller's buffer does not take is written when it can be, and who is too slow is hung up on.

Each door keeps a descriptor in reserve: a master that has no other left can still be asked how it is, and be stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from select import POLLIN, POLLOUT
from socket import AF_UNIX, SOCK_STREAM, socket
from time import monotonic
from typing import Any

from gkore import log
from gkore.master.address import advice

TIME_MAX = 5.0
"""Seconds to ask, and then to take the answer."""
REST = 1.0
"""Seconds without accepting after a failure: whoever waits makes the listener readable on every turn of the loop."""
NEVER = float("inf")


@dataclass(slots=True, frozen=True)
class Policy:
    """What a door lets happen. When it is crowded the newcomer is refused, or the oldest caller makes room."""

    callers: int
    asked: int
    """Bytes of a question."""
    newest: bool
    """Newcomers come before those who have been there for long."""


class Caller:
    """One connection to a door."""

    def __init__(self, sock: socket, door: Door) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.deadline = monotonic() + TIME_MAX
        self.waits = False
        """For something that takes its time; ``deadline`` does not hold for it."""
        self.said = b""
        self._door = door
        self._rest = b""

    @property
    def events(self) -> int:
        return POLLOUT if self._rest else POLLIN

    def fileno(self) -> int:
        return self.sock.fileno()

    def act(self, _: int) -> None:
        if self._rest:
            self._write()
            return
        try:
            data = self.sock.recv(self._door.policy.asked)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.said += data
        if not data or len(self.said) > self._door.policy.asked:
            self._door.leave(self)
        elif not self.waits:
            self._door.heard(self)

    def wait(self) -> None:
        """Stay, however long the answer takes."""
        self.waits, self.deadline = True, NEVER

    def answer(self, data: bytes) -> None:
        """Say it and hang up."""
        self.waits, self.deadline = False, monotonic() + TIME_MAX
        self._rest = data
        self._write()

    def _write(self) -> None:
        try:
            self._rest = self._rest[self.sock.send(self._rest) :]
        except BlockingIOError:
            return
        except OSError:
            self._rest = b""
        if not self._rest:
            self._door.leave(self)


class Door:
    """The listening socket and its callers; ``heard(caller)`` is called whenever one has said more."""

    events = POLLIN

    def __init__(self, heard: Callable[[Caller], object], policy: Policy) -> None:
        self.heard = heard
        self.policy = policy
        self.callers: list[Caller] = []
        self.sock: socket | None = None
        self._reserve: socket | None = None
        self._rests_until = 0.0

    def open(self, sock: socket) -> None:
        """Let callers in through a listening socket."""
        self.sock = sock
        self._rests_until = 0.0
        self._restock()

    def sources(self) -> Iterator[Door | Caller]:
        """What the loop waits for."""
        if self.sock is not None and monotonic() >= self._rests_until:
            yield self
        yield from self.callers

    def sockets(self) -> Iterable[socket]:
        """What no worker may keep."""
        yield from (caller.sock for caller in self.callers)
        yield from filter(None, (self.sock, self._reserve))

    def fileno(self) -> int:
        assert self.sock is not None
        return self.sock.fileno()

    def act(self, _: int) -> None:
        sock = self._accepted()
        if sock is None:
            return
        if len(self.callers) >= self.policy.callers:
            if not self.policy.newest:
                sock.close()
                return
            self.leave(self.callers[0])
        self.callers.append(Caller(sock, self))

    def _accepted(self) -> socket | None:
        """Who waits at the door; without a descriptor for it the reserve's, and without that nobody for a while."""
        try:
            return self._accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        except OSError as failure:
            log.seldom("door", f"control socket, metrics: can't accept: {advice(failure)}")
        if self._reserve is not None:
            self._reserve.close()
            self._reserve = None
            try:
                return self._accept()
            except OSError:
                self._restock()
        self._rests_until = monotonic() + REST
        return None

    def _accept(self) -> socket:
        """As socket.accept, which would make a patched socket, and that a hub in the master."""
        assert self.sock is not None
        descriptor, _ = self.sock._accept()  # type: ignore[attr-defined]
        return socket(self.sock.family, SOCK_STREAM, 0, descriptor)

    def _restock(self) -> None:
        if self._reserve is None:
            with suppress(OSError):  # when the next caller has left, it is tried again
                self._reserve = socket(AF_UNIX)

    def leave(self, caller: Caller) -> None:
        if caller in self.callers:
            self.callers.remove(caller)
        caller.sock.close()
        self._restock()

    def tick(self, now: float) -> None:
        """Hang up on who is too slow."""
        for caller in [caller for caller in self.callers if now > caller.deadline]:
            self.leave(caller)

    def close(self) -> None:
        """Listen no more. Who waits is let go by the end of the process."""
        for sock in filter(None, (self.sock, self._reserve)):
            sock.close()
        self.sock = self._reserve = None

    # From one program of the master to the next.

    def bequeath(self) -> dict[str, Any]:
        waiting = [caller.fileno() for caller in self.callers if caller.waits]
        return {"descriptor": self.sock.fileno() if self.sock else None, "waiting": waiting}

    def inherit(self, entry: dict[str, Any]) -> None:
        if entry["descriptor"] is not None:
            self.open(_taken(entry["descriptor"]))
        for descriptor in entry["waiting"]:
            self.callers.append(Caller(_taken(descriptor), self))
            self.callers[-1].wait()


def _taken(descriptor: int) -> socket:
    sock = socket(fileno=descriptor)
    sock.set_inheritable(False)
    return sock
