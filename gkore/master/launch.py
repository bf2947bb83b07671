"""A server's first and last acts, around the loop.

Order of a start: bind (while the terminal can still be told about an address in use), daemonize, pid file,
``kore_parent_configure``, bind what that declared. As Kore's, and before any worker gives its privileges up.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from setproctitle import setproctitle

from gkore import log
from gkore.conf.certificates import keys_apart, speaks_tls
from gkore.conf.loading import user_traceback
from gkore.errors import StartError
from gkore.log import counted
from gkore.master import acme
from gkore.master.acme import Acme
from gkore.master.address import Address
from gkore.master.birth import RunWorker
from gkore.master.control import Control, beside
from gkore.master.daemon import Daemon, daemonize, remove_pidfile, warn_of_neighbour, write_pidfile
from gkore.master.fleet import Fleet
from gkore.master.keymgr import Keymgr
from gkore.master.listeners import Listeners
from gkore.master.metrics import Metrics
from gkore.master.privileges import plan
from gkore.master.provisions import provide

if TYPE_CHECKING:
    from gkore.conf.application import Application


def rehearse(application: Application, held: Collection[str]) -> None:
    """Before a reload: would the master get what this application asks for? StartError when it would not."""
    provide(application, plan(application))
    if keys_apart(application.site):
        plan(application, "keymgr")
    acme.rehearse(application)
    Listeners(1).try_out(application.site.servers.values(), held)


class Launch:
    """What one run of a server holds besides its workers: addresses, pid file, the terminal it came from."""

    __slots__ = ("acme", "application", "configured", "daemon", "deputy", "first", "heritage", "listeners", "settings")

    def __init__(self, application: Application, heritage: dict[str, Any] | None = None) -> None:
        """``heritage`` is what the program before left, when this is a reload."""
        self.heritage = heritage
        self.application = application
        self.settings = application.settings
        self.acme = Acme(application, (heritage or {}).get("acme"))
        self.listeners = Listeners(self.settings.socket_backlog, frozenset(self.settings.worker_no_accept))
        self.daemon = Daemon()
        self.configured = False
        self.deputy = False
        """Another master is in office: addresses, pid file and control socket are its own (see ``relief``)."""
        self.first = heritage is None
        """It has not been said yet where the application listens."""

    def start(self, run_worker: RunWorker) -> Fleet:
        """Everything up to the first fork. StartError when it can't be done."""
        if self.heritage is not None:
            self.listeners.inherit(self.heritage["listeners"], self.application.site)
        else:
            self.listeners.activate(self.application.site)
        privileges = plan(self.application)
        self._bind()
        if self.heritage is None and self.application.daemonize:
            self.daemon = daemonize()
        elif self.heritage is not None and self.application.daemonize:
            log.log.take_streams()
        if self.heritage is not None and self.heritage["launch"]["syslog"] and not log.log.path:
            log.log.to_syslog()
        setproctitle("gkore [parent]")
        if not self.deputy:
            self._write_pidfile()
        if self.application.daemonize:
            self._hook("parent_daemonized")
        self.configured = True
        self._hook("parent_configure", self.application.arguments)
        self._bind()
        if not self.listeners.addresses:
            log.notice("no address to listen on: the workers run, but serve nobody (bind ADDRESS PORT)")
        provide(self.application, privileges)
        self.acme.prepare()
        gc.freeze()  # a collection writes into each object it looks at: a worker's would copy all of our pages
        fleet = Fleet(self.application, run_worker, self.listeners, privileges, self._keymgr())
        fleet.nursery.challenges, fleet.certificates = self.acme.workers_end, self.acme.certificates
        return fleet

    def _keymgr(self) -> Keymgr:
        site = self.application.site
        return Keymgr(site, plan(self.application, "keymgr") if keys_apart(site) else None)

    def open(self, control: Control, metrics: Metrics) -> None:
        """Make the master itself reachable. StartError when it can't be."""
        path = self.settings.control
        control.open(path or beside(self.settings.pidfile), bool(path))
        metrics.open(self.settings.metrics)

    def take_office(self) -> None:
        """The other master may retire."""
        if self.deputy:
            self.deputy = False
            self._write_pidfile()

    def bequeath(self) -> dict[str, Any]:
        """What the next program must know of this start."""
        pidfile = self.settings.pidfile
        return {"pidfile": pidfile and os.path.abspath(pidfile), "syslog": log.log.descriptor is None}

    def _write_pidfile(self) -> None:
        path = self.settings.pidfile
        before = self.heritage["launch"]["pidfile"] if self.heritage is not None else ""
        if before and before != (path and os.path.abspath(path)):
            remove_pidfile(before)
        if path:
            if self.heritage is None:  # else the other one is ourselves, before a reload
                warn_of_neighbour(path)
            write_pidfile(path)

    def finish(self) -> None:
        """After the last worker: the application's own end, and nothing of ours left behind."""
        self.listeners.close()
        if not self.deputy:
            self.listeners.unlink()
        if not self.configured:
            return
        self.application.hear_children()
        try:
            self._hook("parent_teardown")
        except StartError as failure:
            log.error(str(failure))
        if self.settings.pidfile:
            remove_pidfile(self.settings.pidfile)
        if not self.deputy:
            log.notice("stopped")

    def _bind(self) -> None:
        mute = self.listeners.mute
        accepting = sum(number not in mute for number in range(1, self.settings.workers + 1))
        if not accepting:
            raise StartError("worker_no_accept names every worker: nobody would accept a connection")
        before = len(self.listeners.addresses)
        fresh = self.listeners.open(self.application.site.servers.values(), self.settings.workers)
        workers = counted(accepting, "worker")
        for address in self.listeners.addresses[before:] if self.first else fresh:
            log.notice(f"listening on {self._url(address)} (server {address.server.name}, {workers})")

    def urls(self) -> list[str]:
        """Where it listens."""
        return [self._url(address) for address in self.listeners.addresses]

    def _url(self, address: Address) -> str:
        if address.bind.path:
            return str(address.bind)
        tls = speaks_tls(self.application.site, address.server)
        return f"{'https' if tls else 'http'}://{address.bind}"

    def _hook(self, name: str, *arguments: object) -> None:
        function = self.application.hook(name)
        if function is None:
            return
        try:
            function(*arguments)
        except StartError:
            raise
        except Exception as failure:
            raise StartError(f"{name} raised:\n{user_traceback(failure)}") from failure
