"""A worker, from fork to exit.

    boot     a hub of its own, the site compiled, hooks, then READY to the master
    serve    the main greenlet waits; everything happens on the hub and on tasks
    drain    accept nothing, finish what is in flight, at most worker_drain_time
    exit     teardown hooks; the status tells the master what to do next

A second SIGTERM, SIGINT or SIGQUIT ends a drain at once.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from gevent import get_hub
from gevent._hub_local import get_hub_if_exists
from gevent.event import Event

from gkore import log
from gkore.conf.certificates import speaks_tls, take
from gkore.conf.loading import user_traceback
from gkore.errors import StartError
from gkore.log import counted
from gkore.protocol.bus import Envelope, Kind, reason
from gkore.protocol.counters import BEAT_TIME, Cell, Stage
from gkore.protocol.slot import Exit
from gkore.worker import (
    broadcast,
    bus,
    cluster,
    errorpage,
    failures,
    heap,
    landlock,
    rotation,
    signer,
    stacks,
    tasks,
    traps,
)
from gkore.worker.acceptor import Acceptor
from gkore.worker.accesslog import AccessLog
from gkore.worker.broadcast import Audience
from gkore.worker.objects import Inbox
from gkore.worker.observation import Observation
from gkore.worker.planner import Planner
from gkore.worker.pulse import Pulse
from gkore.worker.refusal import Refusal
from gkore.worker.sandbox import confine
from gkore.worker.service import Fleet, Service
from gkore.worker.spread import Spread
from gkore.worker.tls import Greeter

if TYPE_CHECKING:
    from gkore.conf.application import Application
    from gkore.protocol.slot import Listener, Slot

# gevent imports what it is configured to use on first use: in a worker that may be after chroot and setuid, from where
# no file of ours can be read.
for _name in ("loop", "resolver", "threadpool", "format_context"):
    getattr(gevent.config, _name)

MODULE_LOAD, MODULE_UNLOAD = 1, 2
IDLE_GRACE = 0.25
"""Seconds that idle connections are kept open in a drain: a request that is on its way still gets its answer."""
DRAIN_LOOK = 0.02


def run(application: Application, slot: Slot) -> int:
    """Live as the worker of ``slot``; the exit status (``protocol.slot.Exit``) is returned."""
    old = get_hub_if_exists()
    if old is not None:
        old.destroy(destroy_loop=True)  # made by user code at import, in the parent: its descriptors are not ours
    heap.keep()
    worker = Worker(application, slot)
    try:
        worker.boot()
    except StartError as failure:
        tell(str(failure))
        raise  # in words already
    except BaseException as failure:
        log.exception(f"worker {slot.number} failed to start: {failure!r}", failure)
        tell(user_traceback(failure))
        return Exit.BOOT
    return worker.live()


def tell(why: str) -> None:
    """The master, why there is no worker."""
    end = bus.end()
    if end is not None:
        with suppress(OSError):
            end.send(Kind.REFUSED, payload=reason(why))


class Worker:
    """What one worker process holds together."""

    def __init__(self, application: Application, slot: Slot) -> None:
        self.application = application
        self.slot = slot
        self.counters = slot.counters
        self.fleet = Fleet(application.settings.http_request_limit)
        self.services: list[Service] = []
        self.acceptors: list[Acceptor] = []
        self.spread: Spread | None = None
        self.logs: list[AccessLog] = []
        self.stopping = Event()
        self.told = False
        """A signal has asked to stop: the master's envelope is no second one."""
        self.reason = "stop"
        self.refusal: Refusal | None = None
        """With ``deployment dev``: newer code that can't be served."""
        self.gone: frozenset[int] = frozenset()
        """Listening sockets, by inode, that no successor of ours has."""
        self._watchers: list[Any] = []

    def boot(self) -> None:
        """Everything up to READY; what raises here is a failure to boot."""
        hub = get_hub()
        hub.print_exception = _print_exception  # type: ignore[assignment,method-assign]
        self._tick()
        if self.slot.keys is not None:
            signer.take(self.slot.keys)
        stacks.listen(self.counters, self.application.settings.worker_block_warn, self.slot.words)
        self.bus = bus.BusEnd(self.slot.number, self.slot.bus, self._orphaned)
        bus.join(self.bus)
        self.audience = Audience(self.application.settings, self.counters, self.bus)
        broadcast.gather(self.audience)
        self.bus.receivers[Kind.BROADCAST] = self.audience.heard_on_bus
        onmsg = self.application.hook("message")
        if onmsg is not None:
            self.bus.receivers[Kind.OBJECT] = Inbox(onmsg).heard
        self._listen()
        self.bus.receivers[Kind.DRAIN] = self._drained
        self.bus.receivers[Kind.CERTIFICATES] = self._certified
        self.bus.receivers[Kind.LOGS] = self._rotated
        self.pulse = pulse = Pulse(self.fleet, self.slot, self.application.settings, self.bus, self.planner.observation)
        for seconds, callback in ((1.0, self._tick), (BEAT_TIME, pulse.beat)):
            timer = hub.loop.timer(seconds, seconds)
            timer.start(callback)
            self._watchers.append(timer)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1):
            self._watch(number)
        traps.begin(self._tell)
        if self.application.settings.deployment in ("dev", "development"):
            failures.show = errorpage.answer
            self.refusal = Refusal(self.services, self.application)
            self.bus.receivers[Kind.REFUSED] = self.refusal.heard
        settings = self.application.settings
        landlock.confine(self.application)
        confine(settings.seccomp, settings.seccomp_tracing, self.application.hook("seccomp"))
        self._configure()
        tasks.begin()
        self.cluster = cluster.start(self.application.settings.websocket_bus, self.audience)
        for acceptor in self.acceptors:
            acceptor.start()
        self.counters[Cell.PID], self.counters[Cell.STATE] = os.getpid(), Stage.ACCEPTING
        pulse.spread = self.spread
        pulse.beat()
        self.bus.send(Kind.READY)

    def _listen(self) -> None:
        settings = self.application.settings
        self.planner = Planner(self.application.site, settings, self.slot.number, self.slot.journal)
        self.planner.observation = Observation(self.slot.latency, settings.otel)
        self.acceptors += map(self._acceptor, self.slot.listeners)
        if self.slot.fleet is not None and self.slot.neighbours:
            beside = {number: list(map(self._acceptor, group)) for number, group in self.slot.neighbours.items()}
            self.spread = Spread(self.fleet, self.slot.fleet, self.counters, self.acceptors, beside)
        self.logs = list(self.planner.logs.values())

    def _acceptor(self, listener: Listener) -> Acceptor:
        settings = self.application.settings
        most, burst = settings.worker_max_connections, settings.worker_accept_threshold
        return Acceptor(self._service(listener.server), listener.sock, most, burst, listener.bind.callback)

    def _service(self, server: Any) -> Service:
        for service in self.services:
            if service.server is server:
                return service
        site = self.application.site
        tls = speaks_tls(site, server)
        service = Service(site, server, self.application.settings, self.fleet, self.planner, tls)
        if tls:
            service.greeter = Greeter(service, self.slot.challenges)
        self.services.append(service)
        return service

    def _watch(self, number: int) -> None:
        watcher = get_hub().loop.signal(number)
        watcher.start(self._signalled, number)
        self._watchers.append(watcher)

    def _configure(self) -> None:
        hook = self.application.hook("worker_configure")
        if hook is not None:
            hook()
        for module, onload in self.application.onloads:
            if onload(MODULE_LOAD) == 0:  # RESULT_ERROR; None counts as RESULT_OK
                raise RuntimeError(f"onload of {module.__name__} returned RESULT_ERROR")

    # Living

    def live(self) -> int:
        """Serve until told to stop, drain, tear down."""
        self.stopping.wait()
        self._drain()
        self._teardown()
        return Exit.OK

    def _tick(self) -> None:
        """Once a second: the clock, the date, deadlines, counters."""
        fleet = self.fleet
        now = fleet.clock.now = int(monotonic())
        for service in self.services:
            service.heads.tick()
        for access_log in self.logs:
            access_log.tick()
        for connection in list(fleet.connections):
            connection.overdue(now)
        if not (fleet.draining or (self.spread and self.spread.paused)):
            for acceptor in self.acceptors:
                acceptor.start()

    def _signalled(self, number: int) -> None:
        self._tell(number)
        if number == signal.SIGUSR1:
            return  # the master has handed out the log files, see ``_rotated``
        if self.told:
            log.notice("told to stop again: leaving at once")
            os._exit(Exit.OK)
        else:
            self.told = True
            self.stopping.set()

    def _tell(self, number: int) -> None:
        hook = self.application.hook("worker_signal")
        if hook is not None:
            gevent.spawn(self._hooked, hook, number)

    def _hooked(self, hook: Any, *arguments: Any) -> None:
        try:
            hook(*arguments)
        except Exception as failure:
            failures.report(f"hook {getattr(hook, '__name__', hook)}", failure)

    def _drained(self, envelope: Envelope) -> None:
        self.reason, *gone = envelope.payload.decode().split() or ["stop"]
        self.gone = frozenset(map(int, gone))
        if self.reason == "stop" and not self.told:
            self._tell(signal.SIGTERM)  # as in Kore, whose parent forwards the signal itself
        self.stopping.set()

    def _certified(self, envelope: Envelope) -> None:
        take(self.application.site, json.loads(envelope.payload))

    def _rotated(self, envelope: Envelope) -> None:
        rights = self.bus.rights
        rotation.take(envelope.payload, rights.popleft() if rights else [], self.logs)

    def _orphaned(self) -> None:
        log.error("the master is gone: stopping")
        self.stopping.set()

    # Leaving

    def _drain(self) -> None:
        fleet = self.fleet
        fleet.draining = True
        self.counters[Cell.STATE] = Stage.DRAINING
        waiting = self._let_go()
        with suppress(OSError):  # the master may be gone
            self.bus.send(Kind.DRAIN)
        for service in self.services:
            service.drain()
        if self.refusal is not None:
            self.refusal.end(self.reason)
        begun = monotonic()
        end = begun + self.application.settings.worker_drain_time
        while monotonic() < end:
            waiting = [acceptor for acceptor in waiting if not acceptor.finish()]
            if not (waiting or fleet.connections or self.audience.pool.busy or tasks.at_work()):
                break
            self.audience.drain(self.reason, monotonic() - begun, end - begun)
            if monotonic() - begun > IDLE_GRACE:
                for connection in list(fleet.connections):
                    if connection.idle:
                        connection.close()
            gevent.sleep(DRAIN_LOOK)
        if fleet.connections or tasks.at_work():
            left = f"{counted(len(fleet.connections), 'connection')} and {counted(tasks.at_work(), 'task')}"
            log.notice(f"cutting off {left}: worker_drain_time is over ({end - begun:g} s)")
        for connection in list(fleet.connections):
            connection.close()
        tasks.end()

    def _let_go(self) -> list[Acceptor]:
        """Accept nothing more; those are given whose sockets will be nobody's, with what waits in them."""
        for acceptor in self.acceptors:
            acceptor.stop()
        held = [*self.acceptors, *(self.spread.end() if self.spread is not None else ())]
        ours: list[Acceptor] = []
        others: list[Acceptor] = []
        for acceptor in held:
            (ours if self.reason == "stop" or acceptor.inode in self.gone else others).append(acceptor)
        for acceptor in others:
            if acceptor not in self.acceptors:
                acceptor.close()
        return ours

    def _teardown(self) -> None:
        self.pulse.beat()  # the last requests count, too
        if self.cluster is not None:
            self.cluster.stop()
        for access_log in self.logs:
            access_log.flush()
        if self.reason == "reload":
            for _, onload in self.application.onloads:
                self._hooked(onload, MODULE_UNLOAD)
        hook = self.application.hook("worker_teardown")
        if hook is not None:
            self._hooked(hook)


def _print_exception(context: object, kind: type, value: BaseException | None, trace: object) -> None:
    """What gevent would print about a greenlet or callback that failed goes where all failures go."""
    if isinstance(value, BaseException):
        failures.report(str(context), value)
