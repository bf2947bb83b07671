"""The key manager as the master sees it: forked before any worker, replaced when it dies, told keys and channels.

The master keeps its end of every worker's channel too, and hands it to each key manager: to a worker a new one is the
same as the old. It never reads a key itself: workers are forked from its memory.
"""

from __future__ import annotations

import _socket
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from signal import SIGKILL
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from gkore import log
from gkore.conf.certificates import read
from gkore.keys import keymgr
from gkore.keys.aside import aside
from gkore.log import counted
from gkore.master.birth import Closable, spawn
from gkore.master.children import died_of
from gkore.master.deaths import await_death, ended
from gkore.master.seats import Seat

if TYPE_CHECKING:
    from gkore.conf.site import Site
    from gkore.master.privileges import Privileges

END_TIME = 2.0
"""Seconds that it may take to end after the last worker."""


class Keymgr:
    """One key manager, and those of programs of the master before this one."""

    def __init__(self, site: Site, privileges: Privileges | None) -> None:
        """Without ``privileges`` there is none: keys are in the workers."""
        self.pid = 0
        self.keys = 0
        """How many keys it has said to hold."""
        self._site = site
        self._privileges = privileges
        self._feed: _socket.socket | None = None
        self._channels: dict[int, _socket.socket] = {}
        self._strangers: list[_socket.socket] = []
        """Channels whose workers asked a key manager of the program before."""
        self._old: list[int] = []
        self._seat = Seat()
        self._unread = Seat()
        """Its keys: ``due`` when they could not be read."""

    def __bool__(self) -> bool:
        return self._privileges is not None and any(domain.certkey for domain in self._site.domains)

    def tick(self, strange: Callable[[], Iterable[Closable]]) -> None:
        """See to it that there is one; ``strange`` are the sockets that it must not keep."""
        for pid in list(self._old):
            if ended(pid) is not None:
                self._old.remove(pid)
        if not self:
            self._abandon()
            return
        if self.pid and (status := ended(self.pid)) is not None:
            pause = self._seat.crashed(monotonic())
            when = f"in {pause:g} s (it dies in a loop)" if pause else "at once"
            log.error(f"the key manager (pid {self.pid}) {died_of(status)}, replaced {when}")
            self.pid = self.keys = 0
        if not self.pid and monotonic() >= self._seat.due:
            self._start(strange())
        elif self.pid and self._unread.failures and monotonic() >= self._unread.due:
            self._teach()
        self._adopt()
        self._hear()

    def due(self) -> float:
        """CLOCK_MONOTONIC seconds at which ``tick`` has something to do that no event announces."""
        if self and not self.pid:
            return self._seat.due
        return self._unread.due if self._unread.failures else float("inf")

    def channel(self) -> tuple[_socket.socket, _socket.socket] | None:
        """Both ends of a channel for a worker that is about to be forked; ours is for ``keep``."""
        return _socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0) if self else None

    def keep(self, worker: int, ours: _socket.socket) -> None:
        self._channels[worker] = ours
        self._tell(keymgr.CHANNEL, ours.fileno())

    def drop(self, worker: int) -> None:
        """The worker has ended."""
        if worker in self._channels:
            self._channels.pop(worker).close()

    def log_to(self, descriptor: int) -> None:
        """The log was opened again; it could not do that."""
        self._tell(keymgr.LOG, descriptor)

    def feed(self) -> str:
        """Have the key files read by a process that is thrown away, and told to the key manager; what went wrong."""
        try:
            return aside(self._read)
        except OSError as failure:
            return f"no process to read keys: {failure.strerror}"

    def sockets(self) -> Iterable[Closable]:
        """What no other process may have."""
        yield from self._channels.values()
        yield from self._strangers
        if self._feed is not None:
            yield self._feed

    def close(self) -> None:
        """After the last worker: let it end, and wait for that."""
        for sock in self.sockets():
            sock.close()
        end = monotonic() + END_TIME
        for pid in filter(None, (self.pid, *self._old)):
            while ended(pid) is None:
                if monotonic() > end:
                    os.kill(pid, SIGKILL)
                sleep(0.005)

    # From one program of the master to the next.

    def bequeath(self) -> dict[str, Any]:
        channels = [{"descriptor": sock.fileno()} for sock in (*self._channels.values(), *self._strangers)]
        return {"pids": [pid for pid in (self.pid, *self._old) if pid], "channels": channels}

    def inherit(self, entry: dict[str, Any]) -> None:
        """The key managers of the program before end with their workers; should one die before, we serve those."""
        self._old = list(map(await_death, entry["pids"]))
        for channel in entry["channels"]:
            sock = _socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, channel["descriptor"])
            os.set_inheritable(sock.fileno(), False)
            self._strangers.append(sock)

    def _adopt(self) -> None:
        """The old workers' key managers are dead: ours has their channels now; should it die, too, they go without."""
        if self._old or self._feed is None:
            return
        for sock in self._strangers:
            self._tell(keymgr.CHANNEL, sock.fileno())
            sock.close()
        self._strangers.clear()

    def _abandon(self) -> None:
        if self._strangers and not self._old:
            log.error("the older workers' key manager has ended, and this conf has none: their TLS handshakes fail")
            for sock in self._strangers:
                sock.close()
            self._strangers.clear()

    def _start(self, strange: Iterable[Closable]) -> None:
        assert self._privileges is not None
        if self._feed is not None:
            self._feed.close()
        ours, theirs = _socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0)
        privileges = self._privileges

        def live() -> int:
            privileges.apply()
            keymgr.serve(theirs)
            return 0

        try:
            self.pid = await_death(spawn("keymgr", [ours, *strange], live))
        except OSError as failure:
            log.error(f"the key manager could not be forked: {failure.strerror}, next try in {self._failed():g} s")
            ours.close()
            return
        finally:
            theirs.close()
        ours.setblocking(False)
        self._feed = ours
        self._unread.forgive()
        self._teach()
        for sock in self._channels.values():
            self._tell(keymgr.CHANNEL, sock.fileno())

    def _teach(self) -> None:
        wrong = self.feed()
        if not wrong:
            self._unread.forgive()
            return
        pause = self._unread.failed(monotonic())
        log.error(f"the key manager has not got its keys, next try in {pause:g} s: {wrong}")

    def _failed(self) -> float:
        return self._seat.failed(monotonic())

    def _read(self) -> str:
        """In a process that is thrown away: files to packets."""
        assert self._feed is not None
        self._feed.settimeout(5.0)
        wrong = []
        for path in dict.fromkeys(domain.certkey for domain in self._site.domains if domain.certkey):
            try:
                self._feed.send(keymgr.KEY + read(path))
            except OSError as failure:
                wrong.append(f"certkey {path}: {failure.strerror or failure}")
        if not wrong:
            self._feed.send(keymgr.END)
        return ", ".join(wrong)

    def _tell(self, word: bytes, descriptor: int) -> None:
        if self._feed is not None:
            with suppress(OSError):  # it is gone: its successor is told everything
                socket.send_fds(self._feed, [word], [descriptor])  # type: ignore[arg-type]

    def _hear(self) -> None:
        with suppress(OSError):
            while self._feed is not None and (said := self._feed.recv(keymgr.PEM_MAX)):
                self.keys = len(said[1:]) // 16
                log.notice(f"the key manager (pid {self.pid}) holds {counted(self.keys, 'key')}")
