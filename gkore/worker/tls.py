"""TLS beneath a connection: the handshake on the hub, then a socket that encrypts, with the methods of a plain one.

- The client's first message is looked at before OpenSSL gets it (``protocol.hello``): the context is chosen by its
  name, and a client that speaks HTTP without TLS is told so.
- A handshake waits like an idle connection: without a greenlet, for ``http_header_timeout`` seconds at most, and
  counted in ``worker_max_connections``.
- One read takes a record, whole: OpenSSL holds back nothing that epoll would not announce.
- A connection only reaches the domains of the context that it was made with: 421 for others (RFC 9110 7.4), or a client
  could get around another domain's ``client_verify``.
"""

from __future__ import annotations

import _socket
import os
import socket
from contextlib import suppress
from ssl import SSLContext, SSLError, SSLWantReadError, SSLWantWriteError, SSLZeroReturnError
from typing import TYPE_CHECKING, Any

from gevent import get_hub

from gkore.conf.site import Domain
from gkore.errors import ProtocolError
from gkore.protocol.hello import ACME_PROTOCOL, HELLO_MAX, Hello, Incomplete, read_hello
from gkore.worker.openconnection import OpenConnection
from gkore.worker.output import FILE_TURN
from gkore.worker.proxied import ProxiedConnection
from gkore.worker.routing import HOSTS_MAX, Host, Hosts
from gkore.worker.waits import Suspend

if TYPE_CHECKING:
    from gkore.worker.service import Service

WRITE = 2
RECORD = 16384
CHUNK = 65536
"""Bytes encrypted at once: what a slow reader has taken is known in such steps."""
MIXED = b"this port speaks TLS: https\n"
PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
    % (len(MIXED), MIXED)
)


class Raw(_socket.socket):
    """A socket that OpenSSL may refer to."""

    __slots__ = ("__weakref__",)


class Encrypted:
    """The socket of a connection after its handshake: what Connection and Output need of one."""

    __slots__ = ("_raw", "_read", "_write", "fileno", "setsockopt", "tls")

    def __init__(self, raw: Raw, tls: Any) -> None:
        self.tls = tls
        self._raw = raw
        self._read = tls.read
        self._write = tls.write
        self.fileno = raw.fileno
        self.setsockopt = raw.setsockopt

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Up to ``size`` bytes, at least a record's worth. BlockingIOError, OSError; b"" at the end."""
        try:
            data: bytes = self._read(size)
        except (SSLWantReadError, SSLWantWriteError):
            raise BlockingIOError from None
        except SSLZeroReturnError:
            return b""
        if len(data) < RECORD:
            return data
        pieces = [data]  # a full record: others follow
        size -= len(data)
        with suppress(SSLError):
            while size >= RECORD and pieces[-1]:
                pieces.append(self._read(size))
                size -= len(pieces[-1])
        return b"".join(pieces)

    def send(self, data: Any, flags: int = 0) -> int:
        """How much of ``data`` was encrypted and sent. BlockingIOError when nothing was: offer the same again."""
        try:
            if len(data) <= CHUNK:
                return self._write(data)  # type: ignore[no-any-return]
        except (SSLWantWriteError, SSLWantReadError):
            raise BlockingIOError from None
        view, sent = memoryview(data), 0
        try:
            while sent < len(view):
                sent += self._write(view[sent : sent + CHUNK])
        except (SSLWantWriteError, SSLWantReadError):
            if not sent:
                raise BlockingIOError from None
        return sent

    def sendmsg(self, buffers: tuple[bytes, ...]) -> int:
        return self.send(b"".join(buffers))

    def shutdown(self, how: int) -> None:
        """Say farewell; what the client still sends is read in the clear and dropped."""
        with suppress(OSError):
            self.tls.shutdown()
        self._read = self._raw.recv
        self._raw.shutdown(how)

    def close(self) -> None:
        with suppress(OSError):
            self.tls.shutdown()
        self._raw.close()


class Greeter:
    """A server's contexts, by the name that a client asks for."""

    def __init__(self, service: Service, challenges: socket.socket | None = None) -> None:
        self._challenges = challenges
        self._hosts = service.hosts
        self._views: dict[SSLContext, CertifiedHosts] = {}
        certified = (host.declared for host in service.hosts.all() if host.declared.context is not None)
        self._default: Domain | None = next(certified, None)
        self._depths = {
            host.declared.context: host.declared.client_verify_depth
            for host in service.hosts.all()
            if host.declared.client_verify
        }

    def welcome(self, hello: Hello) -> tuple[Any, Hosts] | None:
        """The context for a client, and what it may reach; None when there is no certificate at all."""
        domain = self._default
        if hello.name:
            with suppress(ProtocolError):
                named = self._hosts.find(hello.name.encode()).declared
                domain = named if named.context is not None else domain
        if domain is None or domain.context is None:
            return None
        return domain.context, self._view(domain.context)

    def hand_over(self, descriptor: int) -> bool:
        """Let the acme process answer a CA that checks a challenge; False when there is none."""
        if self._challenges is None:
            return False
        with suppress(OSError):  # it has its hands full, or is gone: the CA asks again
            socket.send_fds(self._challenges, [b"\0"], [descriptor], socket.MSG_DONTWAIT)
        return True

    def trusts(self, tls: Any) -> bool:
        """Whether the chain of the client's certificate is short enough (``client_verify_depth``: intermediates)."""
        depth = self._depths.get(tls.context)
        return depth is None or len(tls.get_verified_chain()) - 2 <= depth

    def _view(self, context: SSLContext) -> CertifiedHosts:
        view = self._views.get(context)
        if view is None:
            view = self._views[context] = CertifiedHosts(self._hosts, context)
        return view

    def forget(self) -> None:
        """Find everything anew."""
        for view in self._views.values():
            view.forget()


class CertifiedHosts(Hosts):
    """The domains that a connection of one context may reach."""

    __slots__ = ("_all", "_context")

    def __init__(self, hosts: Hosts, context: SSLContext) -> None:
        self._all = hosts
        self._context = context
        self.known: dict[bytes | None, Host] = {}
        self.seen = {}

    def _find(self, field: bytes | None) -> Host:
        host = self._all.find(field)
        if host.declared.context is not self._context:
            raise ProtocolError(421, "the Host is not one of this connection's certificate")
        if len(self.known) >= HOSTS_MAX:
            self.known.clear()
        self.known[field] = host
        return host


class SecureConnection(OpenConnection):
    """A client of a server that speaks TLS."""

    __slots__ = ()

    tls: Any = None
    """OpenSSL's side of the connection, once the first message of its handshake is whole."""
    secured = False
    writer: Any = None
    common_name: str | None = None
    seen = -1
    """Bytes of an incomplete first message at the last look: when it no longer grows, the client has stopped."""

    def readable(self) -> None:
        if self.secured or self.lingering:
            super().readable()
            return
        try:
            self._handshake()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:  # what OpenSSL refuses has been told to the client by an alert
            self.close()

    def _handshake(self) -> None:
        if self.tls is None and not self._greeted():
            return
        try:
            self.tls.do_handshake()
        except SSLWantReadError:
            self._leave_writing()
            return
        except SSLWantWriteError:
            self._await_room()
            return
        self._leave_writing()
        if not self.service.greeter.trusts(self.tls):
            self.close()
            return
        self.secured = True
        self.sock = Encrypted(self.sock, self.tls)
        self.since = self.clock.now
        super().readable()

    def _await_room(self) -> None:
        """The client does not read: what it still sends must not wake us either, nobody would take it."""
        if self.writer is None:
            self.writer = get_hub().loop.io(self.fd, WRITE)
            self.writer.start(self.readable)
        self.watcher.stop()

    def _leave_writing(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None
            self.watcher.start(self.readable)

    def _greeted(self) -> bool:
        """Look at what the client says first and choose its context; False when that is not there yet, or nonsense."""
        seen = self.sock.recv(HELLO_MAX, socket.MSG_PEEK)
        hello = read_hello(seen) if seen else None
        if isinstance(hello, Incomplete):
            if len(seen) == self.seen:
                self.close()
                return False
            self.seen = len(seen)
            # It stays in the kernel's buffer: wake us when there is more, not now and forever.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, hello.size)
            return False
        if hello is not None and ACME_PROTOCOL in hello.protocols and self.service.greeter.hand_over(self.fd):
            self.close()
            return False
        chosen = self.service.greeter.welcome(hello) if hello is not None else None
        if chosen is None:
            self._turn_away(seen)
            return False
        context, self.hosts = chosen
        raw = Raw(self.sock.family, socket.SOCK_STREAM, 0, self.sock.detach())
        raw.setblocking(False)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        self.sock = raw
        self.tls = context._wrap_socket(raw, True)
        return True

    def _turn_away(self, seen: bytes) -> None:
        """Answer HTTP without TLS; hang up on anything else."""
        if seen[:1].isalpha():
            self.sock.recv(HELLO_MAX)
            self.sock.send(PLAIN_ANSWER)
            self.linger()
        else:
            self.close()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None
        super().close()

    def send_file(self, descriptor: int, offset: int, count: int) -> int:
        """As Output's, through the encryption."""
        begun, end, turn = offset, offset + count, 0
        while offset < end and not self.lost:
            data = os.pread(descriptor, min(CHUNK, end - offset), offset)
            if not data or not self.put(data):
                break
            offset += len(data)
            turn += len(data)
            if turn >= FILE_TURN:
                turn = 0
                Suspend(0).wait()
        return offset - begun

    @property
    def x509(self) -> bytes | None:
        """The client's certificate (DER), or None."""
        return self.tls.getpeercert(True) if self.secured else None

    @property
    def x509dict(self) -> dict[str, dict[str, str]] | None:
        """Issuer and subject of the client's certificate, or None."""
        found = self.tls.getpeercert() if self.secured else None
        if not found:
            return None
        return {part: {key: value for rdn in found[part] for key, value in rdn} for part in ("issuer", "subject")}

    @property
    def certified(self) -> str:
        """The common name of the client's certificate, "" without one; read once, for the access log."""
        if self.common_name is None:
            self.common_name = (self.x509dict or {}).get("subject", {}).get("commonName", "")
        return self.common_name


class ProxiedSecureConnection(ProxiedConnection, SecureConnection):
    """TLS behind the PROXY protocol."""

    __slots__ = ()


def kind_of(service: Service) -> type[OpenConnection]:
    """The class of a server's connections."""
    if service.greeter is not None:
        return ProxiedSecureConnection if service.server.proxy_protocol else SecureConnection
    return ProxiedConnection if service.server.proxy_protocol else OpenConnection
