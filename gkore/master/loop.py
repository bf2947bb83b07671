"""The master's loop: signals are noted, one place acts.

    SIGTERM, SIGQUIT, SIGINT   drain the workers and stop; a second one stops at once (a daemon ignores SIGINT)
    SIGHUP                     reload: conf, code, certificates, gkore itself (see ``reload``)
    SIGUSR1                    reopen the log files, here and in the workers; read certificates and keys again
    SIGUSR2                    write the stacks of all workers' tasks to the log
    SIGTTIN, SIGTTOU           one worker more, one less
    SIGCHLD                    wakes the loop, which looks for ended children on every turn

The master runs no hub: ``poll``, ``fork`` and ``waitpid`` are the unpatched ones.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from select import POLLIN, POLLOUT, poll  # captured before the standard library is patched
from signal import signal as handle
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from gkore import log
from gkore.conf.application import Application
from gkore.errors import StartError
from gkore.log import counted
from gkore.master import notify, succession
from gkore.master.banner import greet
from gkore.master.birth import RunWorker
from gkore.master.children import Child
from gkore.master.control import Client, Control
from gkore.master.fleet import Fleet
from gkore.master.image import Image
from gkore.master.launch import Launch
from gkore.master.listeners import Listeners
from gkore.master.metrics import Metrics
from gkore.master.privileges import Privileges
from gkore.master.progress import Progress
from gkore.master.reload import HALF, KEPT, Reload
from gkore.master.renewal import Renewal
from gkore.master.rotation import rotate
from gkore.master.status import census
from gkore.master.watchdog import Watchdog
from gkore.protocol.slot import Exit

if TYPE_CHECKING:
    from gkore.master.birth import Closable
    from gkore.master.relief import Relief

TURN_MAX = 1.0
"""Seconds the loop sleeps at most: should user code take SIGCHLD away, a dead worker is still found."""


class Source(Protocol):
    """Something with a descriptor that the loop waits for."""

    @property
    def events(self) -> int: ...

    def fileno(self) -> int: ...

    def act(self, events: int, /) -> object: ...


def run(application: Application, run_worker: RunWorker, image: Image | None = None) -> int:
    """Serve until a signal, a worker or a failure ends it; the exit status of the server (``protocol.slot.Exit``).

    ``run_worker(application, slot)`` runs in each forked worker and returns that process's exit status. StartError when
    no worker could be forked for a reason that is known: for the command line to print, and logged if the log is not
    the terminal.
    """
    image = image or Image()
    launch = Launch(application, image.heritage)
    launch.deputy = image.relief is not None and image.heritage is not None
    launch.first = image.relief.first if image.relief is not None else image.heritage is None
    try:
        fleet = launch.start(run_worker)
    except StartError as failure:
        if image.heritage is not None and not launch.deputy:
            return hold(image, str(failure), launch.listeners)
        if log.log.descriptor != 2:
            log.error(str(failure))
        launch.daemon.report(failure.exit_status)
        launch.finish()
        raise
    return serve(fleet, launch, image)


def hold(image: Image, why: str, listeners: Listeners | None = None) -> int:
    """A reload went wrong beyond the point of no return: the old workers serve on, until a reload that succeeds.

    As ``run``. It takes a change between the rehearsal and the reload itself, or a kore_parent_configure that fails.
    """
    assert image.heritage is not None
    application = Application()
    application.settings.put("pidfile", image.heritage["launch"]["pidfile"], "the last start")
    launch = Launch(application, image.heritage)
    if listeners is None:
        listeners = launch.listeners
        listeners.inherit(image.heritage["listeners"])
    launch.listeners, launch.configured = listeners, True
    fleet = Fleet(application, lambda *_: Exit.BOOT, listeners, Privileges(0))
    fleet.held, fleet.why = True, why
    return serve(fleet, launch, image)


def serve(fleet: Fleet, launch: Launch, image: Image) -> int:
    try:
        status = Loop(fleet, launch, image).serve()
    finally:
        fleet.kill("the master failed")  # nobody is left, unless an exception came out of the loop
        fleet.keymgr.close()
        launch.finish()
    if status and image.relief is not None:
        image.relief.refuse(fleet.why)
    launch.daemon.report(status)
    return status


class Loop:
    """What wakes the master, and what it does then."""

    def __init__(self, fleet: Fleet, launch: Launch, image: Image) -> None:
        settings = launch.application.settings
        self.fleet = fleet
        self.launch = launch
        self.image = image
        self.notes = image.notes
        self.control = Control()
        self.metrics = Metrics(fleet)
        self.keepalive = notify.Keepalive()
        self.watchdog = Watchdog(settings.worker_block_warn, settings.worker_timeout)
        self.reload = Reload(fleet, launch, image, self.control, self.metrics)
        self.control.commands = {"reload": self._asked_reload, "stop": self._asked_stop, "status": self._asked_status}
        self.control.commands["dump"] = self._asked_dump
        self.renewal = Renewal(fleet)
        self.progress = Progress(fleet)
        launch.acme.take_up = self.renewal.begin
        fleet.nursery.private = self._private
        self.actions: dict[signal.Signals, Callable[[signal.Signals], object]] = {
            signal.SIGTERM: self._stop,
            signal.SIGQUIT: self._stop,
            signal.SIGINT: self._stop,
            signal.SIGHUP: lambda _: self.reload.begin(),
            signal.SIGUSR1: self._reopen,
            signal.SIGUSR2: lambda _: fleet.signal(signal.SIGUSR2),
            signal.SIGTTIN: self._resize,
            signal.SIGTTOU: self._resize,
            signal.SIGCHLD: lambda _: None,
        }
        if image.heritage is not None:
            if "fleet" in image.heritage:
                succession.inherit(fleet, image.heritage["fleet"])
            self.control.inherit(image.heritage["control"])
            self.metrics.inherit(image.heritage["metrics"])
        if image.relief is not None:
            self._listen_to(image.relief)

    def serve(self) -> int:
        """Act until the last worker has gone after a stop; the server's exit status."""
        self._open()
        self._catch_signals()
        if self.fleet.held:
            self.reload.failed(self.fleet.why, outcome=HALF)
        announced = self.fleet.held
        while self.fleet.status is None or self.fleet.children:
            self.fleet.tick()
            self.progress.tick(monotonic())
            self.watchdog.look(self.fleet.children.values(), self.fleet.nursery.counters)
            if not self.watchdog.stuck(self.fleet.children.values(), self.fleet.nursery.counters):
                self.keepalive.beat()
            self.reload.tick()
            self.launch.acme.tick(self.fleet)
            self.control.door.tick(monotonic())
            self.metrics.door.tick(monotonic())
            if self.fleet.settled and not announced:
                self._announce()
            announced = self.fleet.settled or self.fleet.held
            self._wait()
            while self.notes.noted:
                number = self.notes.noted.popleft()
                self.actions[number](number)
            self.fleet.reap()
        self.notes.release()
        self.reload.cancel()
        self.launch.acme.close()
        if self.launch.deputy:
            self.control.door.close()
        self.control.close()
        self.metrics.door.close()
        return self.fleet.status

    def _open(self) -> None:
        if not self.fleet.held:
            self.launch.open(self.control, self.metrics)

    def _catch_signals(self) -> None:
        self.notes.catch(self.actions)
        if self.launch.daemon.waiting is not None or self.launch.application.daemonize:
            handle(signal.SIGINT, signal.SIG_IGN)

    def _sources(self) -> Iterator[Source]:
        yield self.notes
        yield from (Speaker(self.fleet, child) for child in self.fleet.children.values() if child.line.open)
        yield from self.reload.sources()
        yield from self.launch.acme.sources()
        yield from self.control.door.sources()
        yield from self.metrics.door.sources()
        if self.image.relief is not None:
            yield self.image.relief

    def _private(self) -> Iterator[Closable]:
        yield from self.launch.acme.sockets()
        yield from self.notes.sockets()
        yield from self.control.door.sockets()
        yield from self.metrics.door.sockets()
        if self.image.relief is not None:
            yield self.image.relief.line

    def _wait(self) -> None:
        """Sleep until something happens, then let those act to whom it happened."""
        waiter = poll()
        sources = {source.fileno(): source for source in self._sources()}
        for descriptor, source in sources.items():
            waiter.register(descriptor, source.events)
        pause = min(
            max(self.fleet.next_deadline() - monotonic(), 0.0), TURN_MAX, self.watchdog.pause(), self.keepalive.pause
        )
        for descriptor, events in waiter.poll(int(pause * 1000) + 1):
            if sources[descriptor].fileno() == descriptor:  # not closed by one that acted before
                sources[descriptor].act(events)

    def _announce(self) -> None:
        if self.fleet.kept:
            self.reload.failed(self.fleet.kept, self.fleet.why, KEPT)
            return
        relief = self.image.relief
        first = relief.first if relief is not None else not self.fleet.started and self.image.heritage is None
        self.fleet.started = True
        count = self.fleet.wanted
        text = f"ready: {counted(count, 'worker')}, pid {os.getpid()}"
        log.notice(text)
        if first:
            greet(self.launch.urls(), count, relief is not None)
        notify.ready(text)
        self.launch.daemon.report(Exit.OK)
        self.control.answer(0, text)
        if relief is not None:
            relief.first = False
            self.launch.take_office()
            relief.ready(self.launch.urls())

    def _listen_to(self, relief: Relief) -> None:
        """With ``gkore run``: what its warm process may ask for."""
        relief.bequeath, relief.retire, relief.failed = self.reload.bequeath, self._retire, self.reload.failed
        relief.abandoned = lambda: self.fleet.stop(Exit.OK, "gkore run has ended")

    def _retire(self) -> None:
        self.launch.deputy = True
        self.control.door.close()
        self.metrics.door.close()
        self.fleet.stop(Exit.OK, "another master serves the new code", b"reload")

    def _stop(self, number: signal.Signals) -> None:
        self.fleet.stop(Exit.OK, number.name)

    def _reopen(self, _: signal.Signals) -> None:
        rotate(self.fleet, self.launch.acme)
        self.fleet.signal(signal.SIGUSR1)
        self.launch.acme.certificates.note(self.fleet.application.site, self.renewal.begin())

    def _resize(self, number: signal.Signals) -> None:
        try:
            self.fleet.grow() if number == signal.SIGTTIN else self.fleet.shrink()
        except StartError as failure:
            log.error(f"{number.name}: {failure}")
        else:
            log.notice(f"{number.name}: {counted(self.fleet.wanted, 'worker')} from now on")

    # Asked through the control socket

    def _asked_reload(self, client: Client) -> None:
        client.wait()
        self.reload.begin()

    def _asked_stop(self, client: Client) -> None:
        client.wait()
        self.fleet.stop(Exit.OK, "gkore stop")

    def _asked_dump(self, client: Client) -> None:
        self.fleet.signal(signal.SIGUSR2)
        client.answer(status=0, text=f"asked {counted(len(self.fleet.children), 'worker')}: the stacks are in the log")

    def _asked_status(self, client: Client) -> None:
        client.answer(status=0, **census(self.fleet))


class Speaker:
    """A worker's bus as a source: what it says is heard, what waits for it is written."""

    def __init__(self, fleet: Fleet, child: Child) -> None:
        self._fleet = fleet
        self._child = child
        self.events = POLLIN | POLLOUT if child.line.waiting else POLLIN

    def fileno(self) -> int:
        return self._child.line.fileno()

    def act(self, events: int) -> Any:
        if events & POLLOUT:
            self._child.line.flush()
        if events & ~POLLOUT:
            self._fleet.listen(self._child)
