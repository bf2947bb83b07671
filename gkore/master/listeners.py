"""One listening socket per worker slot and address, made and kept open by the master.

The rules, and why:

- A TCP address has one SO_REUSEPORT socket per slot: the kernel spreads connections over the slots by hash. The sockets
  belong to the slots, not to the workers: when a worker dies, what waits in its accept queue waits for its successor.
- Closing one socket of the group resets what waits in it, so none is closed while its address is served. A slot without
  a worker is served by another slot's worker (``fleet.covers`` decides which).
- A UNIX socket is shared by all slots; Linux has no SO_REUSEPORT groups for stream sockets of that family.
- SO_REUSEPORT would let a second server of the same user join the group in silence and take a part of the requests, so
  each address is first bound once without it: that fails when anybody else listens there.
- Everything here happens before a worker drops its privileges.

The sockets are plain ``socket.socket`` as the name stood when this module was imported, before the standard library was
patched: a patched socket would make a hub, and the master has none.
"""

from __future__ import annotations

import _socket
import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from socket import (
    AF_INET6,
    AF_UNIX,
    AI_PASSIVE,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPV6_V6ONLY,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    gaierror,
    socket,
)
from typing import Any

from gkore import log
from gkore.conf import declarations
from gkore.conf.site import Bind, Place, Server, Site
from gkore.errors import StartError
from gkore.protocol.slot import Listener

SHARED = 0
"""The key of an address's only socket, of a UNIX address or from systemd; slots count from 1."""
LISTEN_FDS_START = 3


@dataclass(slots=True)
class Address:
    """One address that is served: where it was declared, what the kernel calls it, its sockets by slot."""

    server: Server
    declared: Bind
    bind: Bind
    """As declared, but with the port that the kernel gave when port 0 was asked for."""
    family: int
    sockaddr: Any
    sockets: dict[int, socket] = field(default_factory=dict)
    inode: tuple[int, int] | None = None
    given: str | None = None
    """The name of the server that systemd handed it over for, when it did."""


class Listeners:
    """All addresses and their sockets; ``mute`` holds the slots that accept nothing (``worker_no_accept``)."""

    __slots__ = ("addresses", "backlog", "mute", "orphans")

    def __init__(self, backlog: int, mute: Collection[int] = ()) -> None:
        self.backlog = backlog
        self.mute = mute
        self.addresses: list[Address] = []
        self.orphans: list[Address] = []
        """Sockets of the program before ours that no declared address has claimed yet."""

    def open(self, servers: Iterable[Server], slots: int) -> list[Address]:
        """Listen on every declared address that is not served yet, and say which; StartError with its place."""
        known = {id(address.declared) for address in self.addresses}
        fresh: list[Address] = []
        for server in servers:
            for bind in server.binds:
                if id(bind) in known:
                    continue
                with _named(bind):
                    address = self._claimed(server, bind)
                    if address is None:
                        address = self._unix(server, bind) if bind.path else self._tcp(server, bind)
                        fresh.append(address)
                    self.addresses.append(address)
                    self._fill(address, slots)
        return fresh

    def try_out(self, servers: Iterable[Server], held: Collection[str]) -> None:
        """Find out whether the declared addresses that aren't ``held`` could be had; StartError with its place."""
        for server in servers:
            for bind in server.binds:
                if str(bind) not in held:
                    with _named(bind):
                        if not bind.path:
                            self._tcp(server, bind)
                        elif not bind.path.startswith("@"):
                            _remove_stale(bind.path)

    @property
    def slots(self) -> int:
        """The highest slot that has a socket."""
        return max((number for address in self.addresses for number in address.sockets), default=0)

    # From one program of the master to the next.

    def bequeath(self) -> list[dict[str, Any]]:
        """All addresses as plain data, with descriptors."""
        return [
            {
                "host": address.declared.host,
                "port": address.declared.port,
                "path": address.declared.path,
                "sockets": {number: sock.fileno() for number, sock in address.sockets.items()},
                "inode": address.inode,
                "given": address.given,
            }
            for address in self.all()
        ]

    def inherit(self, addresses: Iterable[dict[str, Any]], site: Site | None = None) -> None:
        """Take over what ``bequeath`` gave; ``open`` matches it with what is declared now."""
        for entry in addresses:
            sockets = {int(number): _taken(descriptor) for number, descriptor in entry["sockets"].items()}
            address = _address(Bind(entry["host"], entry["port"], entry["path"]), sockets)
            address.inode = tuple(entry["inode"]) if entry["inode"] else None
            self.orphans.append(address)
            if site is not None and entry["given"] is not None:
                self._offer(address, entry["given"], site)

    def activate(self, site: Site) -> None:
        """Take the sockets that systemd opened (sd_listen_fds(3)): for the server of their name, else the first one."""
        for name, descriptor in passed():
            sock = _taken(descriptor)
            found = sock.getsockname()
            bind = Bind(found[0], str(found[1])) if isinstance(found, tuple) else Bind(path=_spelled(found))
            self.orphans.append(_address(bind, {SHARED: sock}))
            self._offer(self.orphans[-1], name, site)

    def _offer(self, address: Address, name: str, site: Site) -> None:
        """See to it that a server declares an address that systemd gave."""
        address.given = name
        home = declarations.home(site) or next(iter(site.servers), "")
        server = site.servers.get(name) or (site.servers[home] if home else declarations.implicit_server(site))
        if not any(str(bind) == str(address.declared) for bind in server.binds):
            server.binds.append(replace(address.declared, place=Place(f"LISTEN_FDS {name}")))

    def drop_orphans(self) -> None:
        """Close what nobody has claimed: its address is no longer served."""
        for address in self.orphans:
            log.notice(f"no longer listening on {address.declared}")
            for sock in address.sockets.values():
                sock.close()
            _unlink(address)
        self.orphans.clear()

    def _claimed(self, server: Server, bind: Bind) -> Address | None:
        for address in self.orphans:
            if str(address.declared) == str(bind):
                self.orphans.remove(address)
                address.server, address.declared, address.bind = server, bind, bind
                if not bind.path:
                    address.bind = replace(bind, port=str(address.sockaddr[1]))
                for sock in address.sockets.values():
                    sock.listen(self.backlog)
                return address
        return None

    def widen(self, slots: int) -> None:
        """Make the sockets of slots that are new; StartError when the kernel refuses."""
        for address in self.addresses:
            with _named(address.bind):
                self._fill(address, slots)

    def of(self, slots: Collection[int]) -> list[Listener]:
        """What a worker that serves these slots listens on; a shared socket is in it once, unless they are none."""
        return [
            Listener(address.server, address.bind, sock)
            for address in self.addresses
            for number, sock in address.sockets.items()
            if number in slots or (number == SHARED and slots)
        ]

    def beside(self, slots: Collection[int]) -> dict[int, list[Listener]]:
        """What all other slots listen on, by slot; shared sockets are not in it."""
        others: dict[int, list[Listener]] = {}
        for address in self.addresses:
            for number, sock in address.sockets.items():
                if number != SHARED and number not in slots:
                    others.setdefault(number, []).append(Listener(address.server, address.bind, sock))
        return others

    def all(self) -> list[Address]:
        """Every address, declared or not any more."""
        return [*self.addresses, *self.orphans]

    def sockets(self) -> Iterator[socket]:
        for address in self.all():
            yield from address.sockets.values()

    def close(self) -> None:
        """Close the master's copies: an address is gone when the last worker has closed its own."""
        for sock in self.sockets():
            sock.close()

    def unlink(self) -> None:
        """Remove the UNIX socket files that are still ours (somebody may have put another one there)."""
        for address in self.all():
            _unlink(address)

    def _fill(self, address: Address, slots: int) -> None:
        if SHARED in address.sockets:
            return
        for number in range(1, slots + 1):
            if number not in self.mute and number not in address.sockets:
                address.sockets[number] = sock = _bound(address.family, address.sockaddr)
                address.sockaddr = sock.getsockname()
                address.bind = replace(address.declared, port=str(address.sockaddr[1]))
                sock.listen(self.backlog)

    def _tcp(self, server: Server, bind: Bind) -> Address:
        family, _, _, _, sockaddr = _socket.getaddrinfo(bind.host or None, bind.port, 0, SOCK_STREAM, 0, AI_PASSIVE)[0]
        if sockaddr[1]:
            _bound(family, sockaddr, group=False).close()
        return Address(server, bind, bind, family, sockaddr)

    def _unix(self, server: Server, bind: Bind) -> Address:
        abstract = bind.path.startswith("@")
        name = "\0" + bind.path[1:] if abstract else bind.path
        if not abstract:
            _remove_stale(bind.path)
        sock = socket(AF_UNIX, SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.bind(name)
            if not abstract:
                os.chmod(bind.path, 0o666)  # as nginx: whoever may enter the directory may connect, not only root
            sock.listen(self.backlog)
        except BaseException:
            sock.close()
            raise
        return Address(server, bind, bind, AF_UNIX, name, {SHARED: sock}, None if abstract else _inode(bind.path))


def _bound(family: int, sockaddr: Any, group: bool = True) -> socket:
    sock = socket(family, SOCK_STREAM)
    try:
        sock.setblocking(False)  # at a reload two workers share it: who comes second must not wait in accept
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        if family == AF_INET6:
            sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
        if group:
            sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
            sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # Linux: accepted sockets inherit it, one call less each
        sock.bind(sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def _address(declared: Bind, sockets: dict[int, socket]) -> Address:
    first = next(iter(sockets.values()))
    return Address(Server(""), declared, declared, first.family, first.getsockname(), sockets)


def _spelled(name: str | bytes) -> str:
    """A UNIX socket's name as a conf spells it."""
    text = name if isinstance(name, str) else os.fsdecode(name)
    return f"@{text[1:]}" if text.startswith("\0") else text


def passed() -> list[tuple[str, int]]:
    """Names and descriptors of the sockets that systemd hands over, once (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES)."""
    words = [os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")]
    if words[0] != str(os.getpid()) or not words[1].isdecimal():
        return []
    names = words[2].split(":") if words[2] else []
    return [(names[n] if n < len(names) else "", LISTEN_FDS_START + n) for n in range(int(words[1]))]


def _taken(descriptor: int) -> socket:
    sock = socket(fileno=descriptor)
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def _unlink(address: Address) -> None:
    if address.inode is not None and _inode(address.declared.path) == address.inode:
        os.unlink(address.declared.path)


def _remove_stale(path: str) -> None:
    """Unlink a socket file that nobody answers on; leave anything else where it is."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "a file that is no socket is in the way")
    with socket(AF_UNIX, SOCK_STREAM) as probe:
        probe.setblocking(False)
        refused = probe.connect_ex(path)
    if refused != errno.ECONNREFUSED:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    os.unlink(path)


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _named(bind: Bind) -> Iterator[None]:
    """Turn the kernel's refusal into one line: what, where it was declared, what to do."""
    try:
        yield
    except OSError as failure:
        raise StartError(f"{bind.place}: can't listen on {bind}: {_advice(failure)}") from failure


ADVICE = {
    errno.EADDRINUSE: "the address is in use; stop the server that has it (`ss -ltnpx` shows which) or choose another",
    errno.EACCES: "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE, or choose a higher one",
    errno.EADDRNOTAVAIL: "this machine has no such address (`ip address` shows those it has)",
    errno.EAFNOSUPPORT: "this machine does not speak that protocol (IPv6 switched off?)",
    errno.ENOENT: "the directory does not exist",
    errno.EMFILE: "too many open files; raise the limit (`ulimit -n`) or lower `workers`",
}


def _advice(failure: OSError) -> str:
    if isinstance(failure, gaierror):
        return f"{failure.strerror}; give an address of this machine, such as 127.0.0.1 or ::1"
    return ADVICE.get(failure.errno or 0) or failure.strerror or str(failure)
