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
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from socket import socket
from typing import Any

from gkore import log
from gkore.conf import declarations
from gkore.conf.site import Bind, Place, Server, Site
from gkore.master.activation import given
from gkore.master.address import SHARED, Address, existing, named, remove_stale, taken, tcp, unix
from gkore.protocol.slot import Listener


class Listeners:
    """All addresses and their sockets; ``mute`` holds the slots that accept nothing (``worker_no_accept``)."""

    __slots__ = ("addresses", "backlog", "gone", "mute", "orphans")

    def __init__(self, backlog: int, mute: Collection[int] = ()) -> None:
        self.backlog = backlog
        self.mute = mute
        self.addresses: list[Address] = []
        self.orphans: list[Address] = []
        """Sockets of the program before ours that no declared address has claimed yet."""
        self.gone: list[int] = []
        """The inodes of those that were dropped: older workers still have their copies."""

    def open(self, servers: Iterable[Server], slots: int) -> list[Address]:
        """Listen on every declared address that is not served yet, and say which; StartError with its place."""
        known = {id(address.declared) for address in self.addresses}
        fresh: list[Address] = []
        for server in servers:
            for bind in server.binds:
                if id(bind) in known:
                    continue
                with named(bind):
                    address = self._claimed(server, bind)
                    if address is None:
                        address = unix(server, bind, self.backlog) if bind.path else tcp(server, bind)
                        fresh.append(address)
                    self.addresses.append(address)
                    self._fill(address, slots)
        return fresh

    def try_out(self, servers: Iterable[Server], held: Collection[str]) -> None:
        """Find out whether the declared addresses that aren't ``held`` could be had; StartError with its place."""
        for server in servers:
            for bind in server.binds:
                if str(bind) not in held:
                    with named(bind):
                        if not bind.path:
                            tcp(server, bind)
                        elif not bind.path.startswith("@"):
                            remove_stale(bind.path)

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
            sockets = {int(number): taken(descriptor) for number, descriptor in entry["sockets"].items()}
            address = existing(Bind(entry["host"], entry["port"], entry["path"]), sockets)
            address.inode = tuple(entry["inode"]) if entry["inode"] else None
            self.orphans.append(address)
            if site is not None and entry["given"] is not None:
                self._offer(address, entry["given"], site)

    def activate(self, site: Site) -> None:
        """Take the sockets that systemd opened (sd_listen_fds(3)): for the server of their name, else the first one."""
        for name, address in given():
            self.orphans.append(address)
            self._offer(address, name, site)

    def _offer(self, address: Address, name: str, site: Site) -> None:
        """See to it that a server declares an address that systemd gave."""
        address.given = name
        home = declarations.home(site) or next(iter(site.servers), "")
        server = site.servers.get(name) or (site.servers[home] if home else declarations.implicit_server(site))
        if not any(str(bind) == str(address.declared) for bind in server.binds):
            server.binds.append(replace(address.declared, place=Place(f"LISTEN_FDS {name}")))

    def drop_orphans(self) -> None:
        """Close what nobody has claimed: its address is no longer served.

        While older workers have copies nothing is reset: each accepts what waits, before it closes its own.
        """
        for address in self.orphans:
            self.gone += address.inodes()
            log.notice(f"no longer listening on {address.declared}")
            address.close()
            address.unlink()
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
            with named(address.bind):
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
            address.unlink()

    def _fill(self, address: Address, slots: int) -> None:
        if SHARED in address.sockets:
            return
        for number in range(1, slots + 1):
            if number not in self.mute and number not in address.sockets:
                address.add(number, self.backlog)
