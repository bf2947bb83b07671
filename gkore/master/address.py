"""One address: how its sockets are made, and what the kernel's refusal of one means.

The sockets are plain ``socket.socket`` as the name stood when this module was imported, before the standard library was
patched: a patched socket would make a hub, and the master has none.
"""

from __future__ import annotations

import _socket
import errno
import os
import stat
from collections.abc import Iterator
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

from gkore.conf.site import Bind, Server
from gkore.errors import StartError

SHARED = 0
"""The key of an address's only socket, of a UNIX address or from systemd; slots count from 1."""


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
    """Of a UNIX socket's file."""
    given: str | None = None
    """The name of the server that systemd handed it over for, when it did."""

    def add(self, slot: int, backlog: int) -> None:
        """Make the socket of a slot. OSError."""
        self.sockets[slot] = sock = _bound(self.family, self.sockaddr)
        self.sockaddr = sock.getsockname()
        self.bind = replace(self.declared, port=str(self.sockaddr[1]))
        sock.listen(backlog)

    def inodes(self) -> list[int]:
        """What the kernel calls the sockets, in every process that has them."""
        return [os.fstat(sock.fileno()).st_ino for sock in self.sockets.values()]

    def close(self) -> None:
        for sock in self.sockets.values():
            sock.close()

    def unlink(self) -> None:
        """Remove the file of a UNIX socket, if it is still ours: somebody may have put another one there."""
        if self.inode is not None and _inode(self.declared.path) == self.inode:
            os.unlink(self.declared.path)


def tcp(server: Server, bind: Bind) -> Address:
    """An address that nobody else has, without sockets yet. OSError when somebody has it."""
    family, _, _, _, sockaddr = _socket.getaddrinfo(bind.host or None, bind.port, 0, SOCK_STREAM, 0, AI_PASSIVE)[0]
    if sockaddr[1]:
        _bound(family, sockaddr, group=False).close()
    return Address(server, bind, bind, family, sockaddr)


def unix(server: Server, bind: Bind, backlog: int) -> Address:
    """The address of a UNIX socket, with that. OSError when somebody answers there."""
    abstract = bind.path.startswith("@")
    name = "\0" + bind.path[1:] if abstract else bind.path
    if not abstract:
        remove_stale(bind.path)
    sock = socket(AF_UNIX, SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(name)
        if not abstract:
            os.chmod(bind.path, 0o666)  # as nginx: whoever may enter the directory may connect, not only root
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return Address(server, bind, bind, AF_UNIX, name, {SHARED: sock}, None if abstract else _inode(bind.path))


def existing(declared: Bind, sockets: dict[int, socket]) -> Address:
    """An address whose sockets somebody else has made; nobody's server's yet."""
    first = next(iter(sockets.values()))
    return Address(Server(""), declared, declared, first.family, first.getsockname(), sockets)


def taken(descriptor: int) -> socket:
    """A socket that this process was handed."""
    sock = socket(fileno=descriptor)
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


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


def remove_stale(path: str) -> None:
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
def named(bind: Bind) -> Iterator[None]:
    """Turn the kernel's refusal into one line: what, where it was declared, what to do."""
    try:
        yield
    except OSError as failure:
        raise StartError(f"{bind.place}: can't listen on {bind}: {advice(failure)}") from failure


ADVICE = {
    errno.EADDRINUSE: "the address is in use; stop the server that has it (`ss -ltnpx` shows which) or choose another",
    errno.EACCES: "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE, or choose a higher one",
    errno.EADDRNOTAVAIL: "this machine has no such address (`ip address` shows those it has)",
    errno.EAFNOSUPPORT: "this machine does not speak that protocol (IPv6 switched off?)",
    errno.ENOENT: "the directory does not exist",
    errno.EMFILE: "too many open files; raise the limit (`ulimit -n`, `prlimit` while it runs) or lower `workers`",
    errno.ENFILE: "too many open files on this machine; raise fs.file-max (sysctl)",
}


def advice(failure: OSError) -> str:
    """What to do about an address that can't be had."""
    if isinstance(failure, gaierror):
        return f"{failure.strerror}; give an address of this machine, such as 127.0.0.1 or ::1"
    return ADVICE.get(failure.errno or 0) or failure.strerror or str(failure)
