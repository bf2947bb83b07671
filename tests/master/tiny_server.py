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
from pathlib import Path
from types import SimpleNamespace

from gkore import log
from gkore.conf.settings import Settings
from gkore.conf.site import Bind, Place, Server, Site
from gkore.errors import StartError
from gkore.master import loop
from gkore.master.image import Image
from gkore.protocol.bus import EVERYBODY, HEAD, MASTER, Kind, Opener, seal
from gkore.protocol.slot import Exit, Slot

DEFAULTS = {
    "workers": 2,
    "pidfile": "",
    "worker_death_policy": "restart",
    "worker_set_affinity": False,
    "worker_rlimit_nofiles": 768,
    "worker_boot_time": 300,
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
    if "logfile" in wishes:
        log.log.open(wishes.pop("logfile"))
    hooks = {"parent_configure": configure, "parent_teardown": lambda: print("teardown", file=sys.stderr)}
    return SimpleNamespace(
        site=site,
        boot=wishes.pop("boot", ""),
        arguments=["tiny", wishes.pop("configure", "")],
        no_chroot=wishes.pop("no_chroot", False),
        no_runas=wishes.pop("no_runas", False),
        daemonize=wishes.pop("daemonize", False),
        hook=hooks.get,
        hear_children=lambda: None,
        settings=settings_of({**DEFAULTS, **wishes}),
    )


def settings_of(wishes: dict) -> Settings:
    settings = Settings()
    for name, value in wishes.items():
        settings.put(name, value, "tiny")
    return settings


def configure(arguments: list[str]) -> None:
    if arguments[1] == "fail":
        raise ValueError("this application can't be configured")


def run_worker(app: SimpleNamespace, slot: Slot) -> int:
    if Path(app.boot or "none").exists():
        wish = Path(app.boot).read_text()
        if wish == "raise":
            raise ValueError("a worker that can't boot")
        log.info("hangs at boot")
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
                data, descriptors, _, _ = socket.recv_fds(slot.bus, 65536, 1)
                for descriptor in descriptors:
                    log.log.adopt(descriptor)
                if not data:
                    return Exit.OK
                for envelope in opener.feed(data):
                    (left if envelope.kind == Kind.DRAIN else heard).append(envelope)
    return Exit.OK


def answer(slot: Slot, listener: socket.socket, heard: list) -> None:
    try:
        client, _ = listener.accept()
    except BlockingIOError:  # another worker was quicker
        return
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
        elif word == "say":
            slot.bus.sendall(seal(Kind.OBJECT, 99, EVERYBODY, rest.encode()))
        elif word == "fatalx":
            os._exit(Exit.FATALX)
        elif word == "shutdown":
            slot.bus.sendall(seal(Kind.SHUTDOWN, slot.number, MASTER))
        elif word == "log":
            log.info(rest)
        elif word == "orphan":
            if not os.fork():
                os._exit(0 if os.fork() else time.sleep(0.05) or 0)
            os.wait()
        elif word == "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            client.sendall(b"good night")
            while True:
                signal.pause()
        said = " ".join(f"{envelope.sender}:{envelope.payload[:20].decode()}" for envelope in heard)
        sockets = len(slot.listeners)
        client.sendall(f"{slot.number} {os.getpid()} {sockets} {len(os.sched_getaffinity(0))} {said}".encode())


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        sys.exit(0)
    image = Image()
    image.inherit()
    try:
        sys.exit(loop.run(application(json.loads(sys.argv[1])), run_worker, image))
    except StartError as failure:
        print(failure, file=sys.stderr)
        sys.exit(failure.exit_status)
