"""A real master with a worker of forty lines, run as a process of its own: ``python tiny_server.py '{"workers": 2}'``.

The master must be seen from outside and in an interpreter that nobody has patched, so that tests start this file. Its
worker answers each connection with one line, ``slot pid``, after doing what the client's line asks for.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from types import SimpleNamespace

from gkore.conf.site import Bind, Place, Server, Site
from gkore.master import loop
from gkore.protocol.bus import EVERYBODY, HEAD, MASTER, Kind, Opener, seal
from gkore.protocol.slot import Exit, Slot

DEFAULTS = {
    "workers": 2,
    "pidfile": "",
    "worker_death_policy": "restart",
    "worker_set_affinity": False,
    "worker_rlimit_nofiles": 768,
    "worker_drain_time": 5,
    "worker_no_accept": [],
    "socket_backlog": 512,
}


def application(wishes: dict) -> SimpleNamespace:
    site = Site()
    server = Server("default")
    for number, bind in enumerate(wishes.pop("binds", [["127.0.0.1", "0", ""]]), 1):
        server.binds.append(Bind(*bind, place=Place("tiny.conf", number, 1)))
    site.servers["default"] = server
    privsep = site.privsep("worker")
    privsep.runas, privsep.root = wishes.pop("runas", ""), wishes.pop("root", "")
    asks = {name: wishes.pop(name, "") for name in ("boot", "configure", "last")}
    hooks = {"parent_configure": configure, "parent_teardown": lambda: print("teardown", file=sys.stderr)}
    return SimpleNamespace(
        site=site,
        asks=asks,
        arguments=["tiny", asks["configure"]],
        no_chroot=False,
        no_runas=wishes.pop("no_runas", False),
        daemonize=wishes.pop("daemonize", False),
        hook=hooks.get,
        settings=SimpleNamespace(**{**DEFAULTS, **wishes}),
    )


def configure(arguments: list[str]) -> None:
    if arguments[1] == "fail":
        raise ValueError("this application can't be configured")


def run_worker(app: SimpleNamespace, slot: Slot) -> int:
    if app.asks["boot"] == "raise":
        raise ValueError("a worker that can't boot")
    if app.asks["boot"] == f"hang {slot.number}":
        signal.pause()
    left = []
    signal.signal(signal.SIGTERM, lambda *_: left.append(True))
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    listening = {listener.sock.fileno(): listener.sock for listener in slot.listeners}
    poll = select.poll()
    for descriptor in (*listening, reader.fileno(), slot.bus.fileno()):
        poll.register(descriptor, select.POLLIN)
    slot.bus.sendall(seal(Kind.READY, slot.number, MASTER))
    opener, heard = Opener(), []
    while not left:
        for descriptor, _ in poll.poll():
            if descriptor in listening:
                answer(slot, listening[descriptor], heard)
            elif descriptor == slot.bus.fileno():
                data = slot.bus.recv(65536)
                if not data:
                    return Exit.OK
                heard += [envelope for envelope in opener.feed(data) if envelope.kind == Kind.OBJECT]
    return Exit.OK


def answer(slot: Slot, listener: socket.socket, heard: list) -> None:
    client, _ = listener.accept()
    with client:
        word, _, rest = client.recv(1000).decode().strip().partition(" ")
        if word == "exit":
            os._exit(int(rest))
        elif word == "kill":
            os.kill(os.getpid(), signal.Signals[rest])
        elif word == "garbage":
            slot.bus.sendall(HEAD.pack(2**32 - 1, 5, 1, 2))
        elif word == "order":
            slot.bus.sendall(seal(Kind.DRAIN, MASTER, EVERYBODY))
        elif word == "flood":
            slot.bus.sendall(seal(Kind.OBJECT, 1, int(rest), bytes(2**20)) * 40)
        elif word == "say":
            slot.bus.sendall(seal(Kind.OBJECT, 99, EVERYBODY, rest.encode()))
        elif word == "fatalx":
            slot.bus.sendall(seal(Kind.FATALX, slot.number, MASTER, rest.encode()))
            os._exit(Exit.FATALX)
        elif word == "shutdown":
            slot.bus.sendall(seal(Kind.SHUTDOWN, slot.number, MASTER))
        elif word == "sleep":
            time.sleep(float(rest))
        elif word == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        said = " ".join(f"{envelope.sender}:{envelope.payload[:20].decode()}" for envelope in heard)
        sockets = len(slot.listeners)
        client.sendall(f"{slot.number} {os.getpid()} {sockets} {len(os.sched_getaffinity(0))} {said}".encode())


if __name__ == "__main__":
    sys.exit(loop.run(application(json.loads(sys.argv[1])), run_worker))
