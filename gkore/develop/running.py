"""``gkore run``: the real server with deployment dev, and a new one beside it within an instant of any change.

This process is warm: it has imported gkore, gevent and what the application uses of installed packages, but never the
project. A change forks the next master from it, which imports the project afresh and takes over when it is ready
(``master.relief``). While the new code can't be served the old one is; as long
as there is none, browsers are shown why (``standin``).
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from glob import glob
from posix import WNOHANG, waitpid
from select import POLLIN, poll
from time import monotonic
from typing import Any, Protocol

from gkore.develop.generation import CAUGHT, Generation, Serve, beget
from gkore.develop.standin import Known, stand_in
from gkore.develop.warming import QUICK, warm
from gkore.develop.watching import Watch
from gkore.errors import UsageError
from gkore.master.notes import Notes
from gkore.master.relief import FAILED, RETIRE, Relief
from gkore.protocol.slot import Exit

HINT = "reloads when a file changes, shows tracebacks in the browser; Ctrl-C stops"


class Source(Protocol):
    def fileno(self) -> int: ...


def run(words: Sequence[str], application: str, serve: Callable[[list[str], Relief], int]) -> int:
    """Serve until a signal or the server's own end; its exit status.

    ``application`` is the conf or script in ``words``. UsageError when none was named and none is here.
    ``serve(words, relief)`` becomes the master in a forked process.
    """
    told = list(words)
    if not application:
        application = found()
        told += ["-c", application] if application.endswith(".conf") else [application]
    grow_warm()
    return Run(application, partial(serve, told)).live()


def grow_warm() -> None:
    """Import all of gkore, in the order that ``gkore.cli`` explains."""
    importlib.import_module("gkore.master.loop")
    from gkore.worker.patch import patch

    patch()
    for name in ("gkore.worker.life", "gkore.api"):
        importlib.import_module(name)


def found() -> str:
    """The conf or script that this directory is about."""
    for name in ("kore.conf", "conf/kore.conf", "app.py", *sorted(glob("*/kore.conf"))):
        if os.path.isfile(name):
            folder = os.path.dirname(name)
            return folder if os.path.isfile(os.path.join(folder, "__init__.py")) else name
    raise UsageError("nothing to run: there is no kore.conf and no app.py here; gkore create NAME makes one")


class Run:
    """The warm process: who serves, who is to be next, who is leaving."""

    def __init__(self, application: str, serve: Serve) -> None:
        self.serve = serve
        self.folders = {os.getcwd(), os.path.dirname(os.path.abspath(application))}
        self.notes = Notes()
        self.notes.catch(CAUGHT)
        self.watch = Watch(self.folders)
        self.serving: Generation | None = None
        self.next: Generation | None = None
        self.leaving: list[Generation] = []
        self.status: int | None = None
        """Of the end, once it is near."""
        self.begun = 0.0
        self.took = 0.0
        """Seconds that the newest generation needed to import the application."""
        self.tried: set[str] = set()
        self.servers: Known = []
        """Where the application would listen that was not served yet."""
        self.again = False
        """There is something newer than what is about to be served first."""

    def live(self) -> int:
        """Turn until everybody has left."""
        say(HINT)
        self.renew()
        while self.status is None or self.everybody():
            for source in self.wait():
                self.act(source)
            while self.notes.noted:
                self.obey(self.notes.noted.popleft())
            self.reap()
        self.watch.close()
        return self.status

    def everybody(self) -> list[Generation]:
        return [one for one in (self.serving, self.next, *self.leaving) if one is not None]

    def wait(self) -> list[Source]:
        """Sleep until something happens; to whom it did."""
        awake: list[Source] = [self.notes, *(one for one in self.everybody() if one.open), self.watch]
        sources = {one.fileno(): one for one in awake}
        waiter = poll()
        for descriptor in sources:
            waiter.register(descriptor, POLLIN)
        return [sources[descriptor] for descriptor, _ in waiter.poll()]

    def act(self, source: Source) -> None:
        if source is self.notes:
            self.notes.act(0)
        elif source is self.watch:
            changed = self.watch.read()
            if changed and self.status is None:
                say(f"{named(changed)} changed")
                self.renew()
        elif isinstance(source, Generation) and source in self.everybody():
            self.hear(source, source.heard())

    def renew(self) -> None:
        """Fork the next master; one that is on its way is overtaken, unless it is the first and about to serve."""
        self.again = self.next is not None and self.next.built and self.serving is None
        if self.again:
            return
        if self.next is not None:
            self.next.signal(signal.SIGTERM)
            self.leaving.append(self.next)
        self.begun = monotonic()
        self.next = self.beget(self.serve)

    def beget(self, serve: Serve) -> Generation:
        """Fork a master, beside the one that serves."""
        first = self.serving is None or self.serving.stands_in

        def begin(relief: Relief) -> int:
            relief.first = first
            return serve(relief)

        return beget(begin, self.serving is not None, [one.line for one in self.everybody()], self.notes)

    def hear(self, one: Generation, said: dict[str, Any]) -> None:
        what = said.get("what", "")
        if what == "built" and one is self.next:
            one.built, self.took = True, monotonic() - self.begun
            if self.serving is not None:
                self.serving.hand_over(one)
        elif what == "ready" and one is self.next:
            if self.serving is not None:
                self.serving.tell(RETIRE)
                self.leaving.append(self.serving)
            if one.stands_in:
                say(f"browsers are shown it, too: {' '.join(said['urls'])}")
            elif self.serving is not None:
                say(f"the new code is served, {(monotonic() - self.begun) * 1000:.0f} ms after the change was seen")
            self.serving, self.next = one, None
            self.learn(said)
            self.catch_up()
        elif what == "refused":
            one.why, one.servers = said["why"], said["servers"]
            self.follow(said["folders"])
        elif what == "reload" and self.status is None:
            self.renew()

    def learn(self, said: dict[str, Any]) -> None:
        """Watch where the project lies, and import what need not be imported each time."""
        self.follow(said["folders"])
        if self.took > QUICK:
            warm([name for name in said["modules"] if name not in self.tried], said["environment"])
            self.tried.update(said["modules"])

    def follow(self, found: list[str]) -> None:
        """Watch these folders, too."""
        folders = self.folders | set(found)
        if folders != self.folders:
            self.folders = folders
            self.watch.close()
            self.watch = Watch(folders)

    def catch_up(self) -> None:
        """Something has changed since the first master imported the application."""
        if self.again and self.status is None:
            self.renew()

    def obey(self, number: signal.Signals) -> None:
        """Signals to stop are the servers'; we end when they have ended."""
        if number == signal.SIGHUP and self.status is None:
            self.renew()
        if number in (signal.SIGHUP, signal.SIGCHLD):
            return
        self.status = Exit.OK if self.status is None else self.status
        for one in self.everybody():
            if number != signal.SIGINT or not sys.stdin.isatty():  # a terminal tells the whole group
                one.signal(number)

    def reap(self) -> None:
        """Find out who has ended, and what that means."""
        for one in self.everybody():
            pid, status = waitpid(one.pid, WNOHANG)
            if pid:
                one.line.setblocking(False)
                while one.open:
                    self.hear(one, one.heard())
                one.close()
                self.ended(one, os.waitstatus_to_exitcode(status))

    def ended(self, one: Generation, status: int) -> None:
        if one in self.leaving:
            self.leaving.remove(one)
        elif one is self.next:
            self.next = None
            if not one.stands_in:
                self.refused(status, one)
            self.catch_up()
        else:
            self.serving = None
            if self.status is None and self.next is None:
                say(f"the server has ended with status {status}")
                self.status = status

    def refused(self, status: int, one: Generation) -> None:
        """The new code does not serve, and has said why."""
        if self.status is not None:
            return
        why = one.why or f"The server ended with status {status}; the terminal says more."
        if self.serving is not None and not self.serving.stands_in:
            self.serving.tell(FAILED + why.encode("utf-8", "replace"))
        elif status == Exit.USAGE and self.serving is None:
            self.status = status
        else:
            say("nothing is served yet: mend what is said above; it is tried again when a file changes; Ctrl-C stops")
            self.servers = one.servers or self.servers
            if self.servers and not self.again:
                self.next = self.beget(partial(stand_in, why, self.servers))
                self.next.stands_in = True


def say(text: str) -> None:
    sys.stderr.write(f"gkore: {text}\n")  # one write: others write there, too


def named(changed: set[str]) -> str:
    """The files, as somebody says it who names at most two."""
    names = sorted(os.path.relpath(path) for path in changed)
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
