"""The acme process, from the master's side: born when all workers serve, listened to, and born again when it dies.

the pair     workers hand it connections that want to see a challenge (SCM_RIGHTS); both ends are made before the
             first fork, so that every worker has one, and both live as long as this program of the master
the line     what it says is checked as if a stranger said it: it runs as another user, and speaks to the network
a reload     ends it; the next program starts its own. An order that was open is simply made again
"""

from __future__ import annotations

import _socket
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from posix import close, execve, fork  # not of os: see log and birth
from select import POLLIN, POLLOUT
from socket import AF_UNIX, SOCK_SEQPACKET, socket
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from gkore import log
from gkore.errors import ProtocolError
from gkore.master import deaths
from gkore.master.archive import Archive, candidates
from gkore.master.certificates import Certificates
from gkore.master.privileges import Privileges, plan
from gkore.master.relay import Line, pair
from gkore.protocol.bus import MASTER, Envelope, Kind
from gkore.protocol.commission import CHAIN_MAX, understand

if TYPE_CHECKING:
    from gkore.conf.application import Application
    from gkore.conf.site import Domain
    from gkore.master.birth import Closable
    from gkore.master.fleet import Fleet

HOME = Path(__file__).parents[2]
BACKOFF_FIRST, BACKOFF_MAX = 1.0, 300.0
"""Seconds until a process that died is replaced; doubled from the one to the other."""
FILES = 64
CALM = 600.0
"""A process that lived so long did not die of its start."""


def rehearse(application: Application) -> None:
    """Before a reload: could the certificates be looked after? StartError."""
    domains = candidates(application)
    if domains:
        privileges(application)
        Archive(application).examine(domains)


def privileges(application: Application) -> Privileges:
    """As the workers' user, but in a root of its own only: it has to find the CA by name. StartError."""
    planned = plan(application, "acme")
    apart = bool(application.site.privsep("acme").root)
    return replace(planned, files=FILES, root=planned.root if apart else "", chroot=planned.chroot and apart)


class Acme:
    """The process and its line; without domains there is neither."""

    def __init__(self, application: Application, heritage: dict[str, Any] | None = None) -> None:
        self.certificates = Certificates()
        self.workers_end: socket | None = None
        """What workers hand connections to."""
        self._application = application
        self._domains: dict[str, list[Domain]] = {}
        self._archive: Archive | None = None
        self._privileges = Privileges(0)
        self._folder = -1
        self._own_end: socket | None = None
        self._line: Line | None = None
        self._pid = deaths.await_death(int(heritage["pid"])) if heritage else 0
        self._born = 0.0
        self._due = 0.0
        self._deaths = 0
        self._killed = False
        """By ``end``."""
        self.take_up: Callable[[], object] = int
        """Has the workers serve what has changed in certificates' files."""

    def prepare(self) -> None:
        """Make ready what the first worker must find: keys, certificates or placeholders, the pair. StartError."""
        domains = candidates(self._application)
        if domains:
            self._privileges = privileges(self._application)
            self._archive = Archive(self._application)
            self._folder = self._archive.open(domains, self._privileges.user)
            ours, theirs = _socket.socketpair(AF_UNIX, SOCK_SEQPACKET, 0)
            self._own_end = socket(AF_UNIX, SOCK_SEQPACKET, 0, ours.detach())
            self.workers_end = socket(AF_UNIX, SOCK_SEQPACKET, 0, theirs.detach())
            self.workers_end.setblocking(False)
            for domain in domains:
                self._domains.setdefault(domain.name.lower(), []).append(domain)
        self.certificates.note(self._application.site)

    def tick(self, fleet: Fleet) -> None:
        """Once a turn of the loop: bury, give birth, have new certificates served."""
        self._bury()
        if fleet.status is not None or fleet.held or not fleet.settled:
            return
        if not self._pid and self._domains and monotonic() >= self._due:
            self._bear(fleet)

    def sources(self) -> Iterator[Speaker]:
        if self._line is not None and self._line.open:
            yield Speaker(self, self._line)

    def sockets(self) -> Iterator[Closable]:
        """What no worker may keep."""
        if self._own_end is not None:
            yield self._own_end
        if self._line is not None:
            yield self._line.sock
        if self._folder >= 0:
            yield Descriptor(self._folder)

    def signal(self, number: signal.Signals) -> None:
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def log_to(self, descriptor: int) -> None:
        """Have it write its log there: it may be nobody who could open the file."""
        if self._line is not None:
            self._line.send(Envelope(Kind.LOGS, MASTER, MASTER, b"{}"), [descriptor])

    def end(self) -> dict[str, Any]:
        """Before this program makes room for the next one, which will find the body; ``tick`` would start anew."""
        self.signal(signal.SIGKILL)
        self._killed = True
        return {"pid": self._pid}

    def close(self) -> None:
        """The server ends."""
        self.signal(signal.SIGKILL)
        if self._pid:
            deaths.wait(self._pid)
            self._pid = 0

    # -- birth and death

    def _bear(self, fleet: Fleet) -> None:
        assert self._own_end is not None
        ours, theirs = pair()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # until it has its own handlers
        try:
            self._pid = fork()
            if self._pid == 0:
                become([theirs.fileno(), self._own_end.fileno(), self._folder])
        except OSError as failure:
            ours.close()
            self._later(f"the acme process could not be forked: {failure.strerror}")
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        deaths.await_death(self._pid)
        self._born = monotonic()
        self._line = Line(ours, MASTER)
        self._say(begin=self._commission())

    def _commission(self) -> dict[str, Any]:
        assert self._archive is not None
        settings = self._application.settings
        domains = {}
        for name, (domain, *_) in self._domains.items():
            domains[name] = {"request": self._archive.request(domain), "chain": self._archive.chain(domain)}
        own = log.log
        shape = {"format": own.format, "quiet": own.quiet, "path": own.path and os.path.abspath(own.path)}
        return {
            "provider": settings.acme_provider,
            "email": settings.acme_email,
            "ca": Path(settings.acme_ca).read_text() if settings.acme_ca else "",
            "domains": domains,
            "privileges": asdict(self._privileges),
            "log": {**shape, "syslog": own.descriptor is None},
        }

    def _bury(self) -> None:
        if not self._pid:
            return
        status = deaths.ended(self._pid)
        if status is None:
            return
        self._pid = 0
        if self._line is None:
            return  # it served the program before this one
        self._line.close()
        self._line = None
        if monotonic() - self._born > CALM or self._killed:
            self._deaths = 0
        if self._killed:
            self._killed, self._due = False, monotonic() + BACKOFF_FIRST
            return
        self._later(f"the acme process ended with status {os.waitstatus_to_exitcode(status)}, see above")

    def _later(self, why: str) -> None:
        self._deaths += 1
        wait = min(BACKOFF_MAX, BACKOFF_FIRST * 2.0 ** min(self._deaths - 1, 16))
        self._due = monotonic() + wait
        log.error(f"{why}: certificates stay as they are, next try in {wait:g} s")

    # -- words

    def hear(self, envelope: Envelope) -> None:
        """Act on a message. ProtocolError, KeyError, TypeError or ValueError when it is none."""
        said = understand(envelope.payload)
        if "certificate" in said:
            self._accept(str(said["certificate"]), str(said["chain"]))
        else:
            domain = self._domains[str(said["standing"])][0]
            text = str(said["text"])[:1000]
            self.certificates.stand(domain, float(said["due"]), int(said["failures"]), text)

    def garbled(self, failure: Exception) -> None:
        log.error(f"the acme process is killed and started again: what it sent is no message ({failure!r})")
        self.signal(signal.SIGKILL)
        if self._line is not None:
            self._line.open = False

    def _accept(self, name: str, chain: str) -> None:
        assert self._archive is not None
        domains = self._domains[name]
        try:
            if len(chain) > CHAIN_MAX:
                raise ValueError(f"a chain of {len(chain)} bytes")
            self._archive.accept(domains[0], chain, time.time())
        except (OSError, ValueError) as failure:
            reason = failure.strerror if isinstance(failure, OSError) and failure.strerror else str(failure)
            text = f"the CA's certificate can't be put into {os.path.dirname(domains[0].certfile)}: {reason}"
            self._say(refused=name, text=text, useless=isinstance(failure, ValueError))
            return
        log.notice(f"{name}: the CA has given a new certificate")
        self.take_up()
        self.certificates.note(self._application.site)
        self._say(installed=name, chain=chain)

    def _say(self, **fields: Any) -> None:
        assert self._line is not None
        self._line.send(Envelope(Kind.ACME, MASTER, MASTER, json.dumps(fields).encode()))


class Speaker:
    """The line as a source of the loop."""

    def __init__(self, acme: Acme, line: Line) -> None:
        self._acme = acme
        self._line = line
        self.events = POLLIN | POLLOUT if line.waiting else POLLIN

    def fileno(self) -> int:
        return self._line.fileno()

    def act(self, events: int) -> None:
        if events & POLLOUT:
            self._line.flush()
        if not events & ~POLLOUT:
            return
        try:
            for envelope in self._line.read() or ():
                self._acme.hear(envelope)
        except (ProtocolError, LookupError, TypeError, ValueError) as failure:
            self._acme.garbled(failure)


class Descriptor:
    """A bare descriptor as something to close."""

    def __init__(self, number: int) -> None:
        self._number = number

    def close(self) -> None:
        close(self._number)


def become(descriptors: list[int]) -> NoReturn:
    """In the child: a Python of its own, with these descriptors and none of the user's code."""
    try:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, True)
        environment = dict(os.environ)
        if "site-packages" not in HOME.parts:
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HOME), os.environ.get("PYTHONPATH", ""))))
        # -P: the directory that the server runs in may hold an acme.py of the user's
        execve(sys.executable, [sys.executable, "-P", "-m", "gkore.acme", *map(str, descriptors)], environment)
    except OSError as failure:
        log.error(f"the acme process can't be started: {sys.executable}: {failure.strerror}")
    finally:
        os._exit(127)
