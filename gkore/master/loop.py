"""The master's loop: signals are noted, one place acts.

    SIGTERM, SIGQUIT, SIGINT   drain the workers and stop; a second one stops at once (a daemon ignores SIGINT)
    SIGHUP                     replace all workers, one after the other
    SIGUSR1                    reopen the log files, here and in the workers
    SIGTTIN, SIGTTOU           one worker more, one less
    SIGCHLD                    wakes the loop, which looks for ended children on every turn

The master runs no hub: ``poll``, ``fork`` and ``waitpid`` are the unpatched ones.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable
from select import POLLIN, POLLOUT, poll  # captured before the standard library is patched
from signal import signal as handle
from time import monotonic
from typing import TYPE_CHECKING

from gkore import log
from gkore.errors import StartError
from gkore.master import notify
from gkore.master.birth import RunWorker, reopen_log
from gkore.master.daemon import Daemon
from gkore.master.fleet import Fleet
from gkore.master.launch import Launch
from gkore.master.relay import pair
from gkore.protocol.slot import Exit

if TYPE_CHECKING:
    from gkore.conf.application import Application

TURN_MAX = 1.0
"""Seconds the loop sleeps at most: should user code take SIGCHLD away, a dead worker is still found."""


def run(application: Application, run_worker: RunWorker) -> int:
    """Serve until a signal, a worker or a failure ends it; the exit status of the server (``protocol.slot.Exit``).

    ``run_worker(application, slot)`` runs in each forked worker and returns that process's exit status. StartError when
    no worker could be forked for a reason that is known: for the command line to print, and logged if the log is not
    the terminal.
    """
    launch = Launch(application)
    try:
        fleet = launch.start(run_worker)
        try:
            status = Loop(fleet, launch.daemon).serve()
        finally:
            fleet.kill("the master failed")  # nobody is left, unless an exception came out of the loop
    except StartError as failure:
        if log.log.descriptor != 2:
            log.error(str(failure))
        launch.daemon.report(failure.exit_status)
        raise
    finally:
        launch.finish()
    launch.daemon.report(status)
    return status


class Loop:
    """What wakes the master, and what it does then."""

    def __init__(self, fleet: Fleet, daemon: Daemon) -> None:
        self.fleet = fleet
        self.daemon = daemon
        self.noted: deque[signal.Signals] = deque()
        self.wake, self.waker = pair()
        self.waker.setblocking(False)
        fleet.private = [sock for sock in (self.wake, self.waker, daemon.waiting) if sock is not None]
        self.actions: dict[signal.Signals, Callable[[signal.Signals], None]] = {
            signal.SIGTERM: self._stop,
            signal.SIGQUIT: self._stop,
            signal.SIGINT: self._stop,
            signal.SIGHUP: self._reload,
            signal.SIGUSR1: self._reopen,
            signal.SIGTTIN: self._resize,
            signal.SIGTTOU: self._resize,
            signal.SIGCHLD: lambda number: None,
        }

    def serve(self) -> int:
        """Go round until the last worker is gone; the server's exit status."""
        self._catch_signals()
        announced = False
        while self.fleet.status is None or self.fleet.children:
            self.fleet.tick()
            if self.fleet.settled and not announced:
                self._announce()
            announced = self.fleet.settled
            self._wait()
            while self.noted:
                number = self.noted.popleft()
                self.actions[number](number)
            self.fleet.reap()
        signal.set_wakeup_fd(-1)
        return self.fleet.status

    def _catch_signals(self) -> None:
        """After the application's own set-up code, which may have left handlers of its own."""
        for number in self.actions:
            handle(number, lambda number, _: self.noted.append(signal.Signals(number)))
        if self.daemon.waiting is not None:
            handle(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self.waker.fileno(), warn_on_full_buffer=False)

    def _wait(self) -> None:
        """Sleep until something happens, then listen to the workers that have something to say."""
        waiter = poll()
        waiter.register(self.wake, POLLIN)
        lines = {child.line.fileno(): child for child in self.fleet.children.values() if child.line.open}
        for descriptor, child in lines.items():
            waiter.register(descriptor, POLLIN | POLLOUT if child.line.waiting else POLLIN)
        pause = min(max(self.fleet.next_deadline() - monotonic(), 0.0), TURN_MAX)
        for descriptor, events in waiter.poll(int(pause * 1000) + 1):
            if descriptor == self.wake.fileno():
                self.wake.recv(4096)
                continue
            if events & POLLOUT:
                lines[descriptor].line.flush()
            if events & ~POLLOUT:
                self.fleet.listen(lines[descriptor])

    def _announce(self) -> None:
        self.fleet.started = True
        count = self.fleet.wanted
        text = f"ready: {count} worker{'s' if count != 1 else ''}, pid {os.getpid()}"
        log.notice(text)
        notify.ready(text)
        self.daemon.report(Exit.OK)

    def _stop(self, number: signal.Signals) -> None:
        self.fleet.stop(Exit.OK, number.name)

    def _reload(self, number: signal.Signals) -> None:
        log.notice("SIGHUP: replacing all workers, one after the other; conf and code stay as they were at the start")
        notify.reloading()
        self._reopen(number)
        self.fleet.renew()

    def _reopen(self, _: signal.Signals) -> None:
        reopen_log()
        self.fleet.signal(signal.SIGUSR1)

    def _resize(self, number: signal.Signals) -> None:
        try:
            self.fleet.grow() if number == signal.SIGTTIN else self.fleet.shrink()
        except StartError as failure:
            log.error(f"{number.name}: {failure}")
        else:
            log.notice(f"{number.name}: {self.fleet.wanted} workers from now on")
