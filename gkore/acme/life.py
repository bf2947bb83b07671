"""The process: from the master's first message to the end of its line.

One domain after the other, when each is due. What the CA gave is kept until the master serves it. Whatever fails is
written down before the next try is waited for, so that no restart and no crash turns into a loop that asks a CA.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import time
from posix import close
from typing import Any, NoReturn

from setproctitle import setproctitle

from gkore import log
from gkore.acme.authority import Authority, trust, warm_up
from gkore.acme.memory import Memory, Record
from gkore.acme.refusal import Refusal
from gkore.acme.responder import Responder
from gkore.acme.schedule import pause, renewal, resumed
from gkore.errors import ProtocolError
from gkore.master.privileges import Privileges, User
from gkore.protocol.bus import Kind, Opener
from gkore.protocol.commission import say, understand

LOOK = 60.0
"""Seconds after which the wall clock is looked at again: it may have been set, or the machine been asleep."""
RECV = 65536


def run(line: int, challenges: int, folder: int) -> NoReturn:
    """Live as the acme process; ends with the master's line."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)  # the master's: a terminal sends them to the whole group
    setproctitle("gkore [acme]")
    log.log.process = "acme"
    heard = Line(socket.socket(fileno=line))
    begin = heard.next()["begin"]
    open_log(begin["log"])
    trusted = trust(begin["ca"])
    warm_up()
    give_up(begin["privileges"])
    memory = Memory(folder)
    authority = Authority(begin["provider"], begin["email"], memory.account_key(), trusted)
    responder = Responder(socket.socket(fileno=challenges))
    for life in (heard.listen, responder.serve):
        threading.Thread(target=life, daemon=True).start()
    office = Office(authority, memory, responder, heard)
    for name, domain in begin["domains"].items():
        office.open(name, domain["request"], domain["chain"])
    while True:
        office.turn()


def open_log(wanted: dict[str, Any]) -> None:
    log.log.format, log.log.quiet = wanted["format"], wanted["quiet"]
    if wanted["syslog"]:
        log.log.to_syslog()
    if wanted["path"]:
        log.log.open(wanted["path"])


def give_up(privileges: dict[str, Any]) -> None:
    """Everything that is not needed; what the CA's own modules need was imported before."""
    user = privileges.pop("user")
    groups = tuple(user["groups"]) if user else ()
    become = User(user["name"], user["uid"], user["gid"], groups) if user else None
    Privileges(**privileges, user=become).apply()


class Line:
    """The line to the master: messages wait in a queue, and its end is ours."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._opener = Opener()
        self._waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def say(self, **fields: Any) -> None:
        self._sock.sendall(say(**fields))

    def listen(self) -> None:
        """A thread's whole life, and with it the process's."""
        try:
            while self._read():
                pass
        except (OSError, ProtocolError) as failure:
            log.error(f"the line to the master is broken ({failure}): this process ends, the master starts another")
        os._exit(0)

    def _read(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._sock, RECV, 1)
        for descriptor in descriptors:  # of the log, which was opened again
            log.log.adopt(descriptor)
            close(descriptor)
        for envelope in self._opener.feed(data):
            if envelope.kind == Kind.ACME:
                self._waiting.put(understand(envelope.payload))
        return bool(data)

    def next(self, patience: float | None = None) -> dict[str, Any]:
        """The next message; {} when none comes within ``patience`` seconds. Without: the first one, read here."""
        if patience is None:
            while self._waiting.empty():
                if not self._read():
                    os._exit(0)
        try:
            return self._waiting.get(timeout=patience)
        except queue.Empty:
            return {}


class Office:
    """All domains: what was asked for, what is known of each, and who is next."""

    def __init__(self, authority: Authority, memory: Memory, responder: Responder, line: Line) -> None:
        self._authority = authority
        self._memory = memory
        self._responder = responder
        self._line = line
        self._requests: dict[str, str] = {}
        self._records: dict[str, Record] = {}

    def open(self, name: str, request: str, chain: str) -> None:
        """Take a domain on; ``chain`` is what is served now, "" for the placeholder."""
        record = self._memory.recall(name)
        now = time.time()
        renew = due(chain) if chain else 0.0
        wait = resumed(record.due, record.code, record.tries, now) if record.failures else 0.0
        record.due = max(wait, 0.0 if record.obtained else renew)
        self._requests[name], self._records[name] = request, record
        self._tell(name)

    def turn(self) -> None:
        """Do what is due first, or wait for the master or for the time."""
        name, record = min(self._records.items(), key=lambda item: item[1].due)
        wait = record.due - time.time()
        if wait > 0:
            self._heard(self._line.next(min(wait, LOOK)))
        elif record.obtained:
            self._hand_over(name, record)
        else:
            self._order(name, record)

    def _order(self, name: str, record: Record) -> None:
        log.notice(f"{name}: asking for a certificate")
        try:
            record.obtained = self._authority.issue(name, self._requests[name], self._responder.answering)
        except Refusal as refusal:
            if refusal.counts:
                record.tries.append(time.time())
            self._failed(name, refusal.code, str(refusal))
        except Exception as failure:  # of the libraries or ours: never a process that dies and asks again
            log.exception(f"{name}: the order failed by a fault of the program, please report it:", failure)
            record.tries.append(time.time())
            self._failed(name, "fault", repr(failure))
        else:
            self._keep(name)

    def _hand_over(self, name: str, record: Record) -> None:
        """Until the master has answered, this domain is at rest."""
        record.due = float("inf")
        self._line.say(certificate=name, chain=record.obtained)

    def _heard(self, message: dict[str, Any]) -> None:
        if "installed" in message:
            self._installed(message["installed"], message["chain"])
        elif "refused" in message:
            if message["useless"]:
                self._records[message["refused"]].obtained = ""
            self._failed(message["refused"], "refused", message["text"])

    def _installed(self, name: str, chain: str) -> None:
        self._records[name] = Record(due=due(chain))
        self._keep(name)
        self._tell(name)

    def _failed(self, name: str, code: str, text: str) -> None:
        record, now = self._records[name], time.time()
        same = (code == "unreachable") == (record.code == "unreachable")
        record.failures = record.failures + 1 if same else 1  # a CA that was away has refused nothing
        record.code, record.text = code, text
        wait = pause(record.failures, code, text, now)
        record.due = now + wait
        self._keep(name)
        self._tell(name)
        log.error(f"{name}: no certificate: {text}; next try in {words(wait)}")

    def _keep(self, name: str) -> None:
        try:
            self._memory.keep(name, self._records[name])
        except OSError as failure:
            log.error(f"{name}: what is known of it can't be written down: {failure.strerror} (disk full?)")

    def _tell(self, name: str) -> None:
        record = self._records[name]
        self._line.say(standing=name, due=record.due, failures=record.failures, text=record.text)


def due(chain: str) -> float:
    """When the certificate that a chain begins with is to be renewed."""
    from cryptography.x509 import load_pem_x509_certificate

    found = load_pem_x509_certificate(chain.encode())
    return renewal(found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp(), chain)


def words(seconds: float) -> str:
    """``90 s``, ``16 min``, ``4.3 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
