"""Connections of a server with ``proxy_protocol yes``: the first bytes say whom the proxy speaks for."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from gkore.errors import ProtocolError
from gkore.protocol.proxy import V2_MAX, parse_proxy
from gkore.worker.openconnection import OpenConnection

if TYPE_CHECKING:
    from gkore.worker.service import Service


class ProxiedConnection(OpenConnection):
    """A connection whose ``peer`` is the client that the PROXY header names; without a header it is closed."""

    __slots__ = ("_header",)

    def __init__(self, service: Service, sock: Any, peer: Any) -> None:
        self._header: bytes | None = b""
        super().__init__(service, sock, peer)

    def readable(self) -> None:
        if self._header is None or self._introduced():
            super().readable()

    def _introduced(self) -> bool:
        """Take the header's bytes and no others from the socket; True once it is whole."""
        assert self._header is not None
        try:
            seen = self.sock.recv(V2_MAX, socket.MSG_PEEK)
            found = parse_proxy(self._header + seen) if seen else None
            if found is None:
                self._header += self.sock.recv(len(seen))
                if not seen:
                    self.close()
                return False
            self.sock.recv(found.size - len(self._header))
        except (BlockingIOError, InterruptedError):
            return False
        except (OSError, ProtocolError):
            self.close()
            return False
        self._header = None
        if found.source:
            self.peer = (found.source, found.source_port)
        return True
