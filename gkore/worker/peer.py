"""What applications see of a client: ``kore.connection``.

They may hang attributes of their own on it; it lives as long as the client's connection does, over all of its requests
and the websocket that may follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gkore.compiled import mypyc_attr
from gkore.worker.output import Output

if TYPE_CHECKING:
    from gkore.worker.bridge import Task
    from gkore.worker.websocket import Websocket


@mypyc_attr(allow_interpreted_subclasses=True)
class Peer(Output):
    """A client; ``Connection`` is one that speaks HTTP."""

    __slots__ = ("__dict__", "__weakref__", "peer", "task")

    peer: Any
    """Address and port, or the path of a UNIX socket."""
    task: Task | None
    """The greenlet that serves a request now."""
    client: str = ""
    """Whom a trusted proxy named as the client of the last request; "" when none did."""
    websocket: Websocket | None = None
    """What became of the connection, when it is no longer HTTP."""

    @property
    def addr(self) -> str:
        """The client's IP address. RuntimeError ``invalid family`` for a UNIX socket, as in Kore."""
        if self.client:
            return self.client
        if not isinstance(self.peer, tuple):
            raise RuntimeError("invalid family")
        return str(self.peer[0])

    @property
    def x509(self) -> bytes | None:
        """The client's certificate (DER), or None."""
        return None

    @property
    def certified(self) -> str:
        """The common name of the client's certificate, "" without one. Ours."""
        return ""

    @property
    def x509dict(self) -> dict[str, dict[str, str]] | None:
        """Issuer and subject of the client's certificate, or None."""
        return None

    def close(self) -> None:
        """Close now, whatever is on its way."""
        raise NotImplementedError

    def disconnect(self) -> bool:
        """Close when the running handler is done, at once when none runs; a websocket with Close 1000."""
        if self.websocket is not None:
            self.websocket.close()
        elif self.task is None:
            self.close()
        else:
            self.lost = True
        return True

    def websocket_send(self, op: int, data: Any) -> bool:
        """Send one message, str or bytes; False when the client is gone or too slow. TypeError as in Kore."""
        return self._upgraded().send(op, data)

    def websocket_close(self, code: int = 1000, reason: str = "") -> None:
        """Close the websocket with a code (RFC 6455 7.4) and up to 123 bytes of reason. Ours."""
        self._upgraded().close(code, reason)

    def subscribe(self, topic: str) -> None:
        """Hear what is sent with ``kore.websocket_publish(topic, ...)``. Ours."""
        self._upgraded().subscribe(topic)

    def unsubscribe(self, topic: str) -> None:
        """Hear it no more; without effect when there is no subscription. Ours."""
        self._upgraded().unsubscribe(topic)

    def _upgraded(self) -> Websocket:
        if self.websocket is None:
            raise TypeError("not a websocket connection")
        return self.websocket

    def __repr__(self) -> str:
        peer = self.peer
        return f"<kore.connection {peer[0]}:{peer[1]}>" if isinstance(peer, tuple) else "<kore.connection unix>"
