"""The master's end of the bus: envelopes in, envelopes on to other workers, nothing ever opened or waited for.

A worker is less privileged than the master and may be anybody's by now. So: the sender's number in an envelope is the
one that the master knows, not the one that stands there; a length out of bounds, or an order to a neighbour that only
the master may give, costs the worker its life; for a worker that does not read, the master keeps at most OUT_MAX bytes,
and what comes then is lost and logged.
"""

from __future__ import annotations

import _socket
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Sequence
from socket import AF_UNIX, SOCK_STREAM, send_fds, socket
from typing import Any

from gkore.errors import ProtocolError
from gkore.protocol.bus import MASTER, Envelope, Kind, Opener, seal

OUT_MAX = 32 * 1024 * 1024
READ_SIZE = 256 * 1024
ORDERS = frozenset({Kind.READY, Kind.SHUTDOWN, Kind.DRAIN, Kind.CERTIFICATES, Kind.REFUSED, Kind.LOGS})


def pair() -> tuple[socket, socket]:
    """The two ends of one worker's bus: the master's, which never blocks, and the worker's."""
    ours, theirs = _socket.socketpair(AF_UNIX, SOCK_STREAM, 0)  # socket.socketpair would make patched sockets
    mine = socket(AF_UNIX, SOCK_STREAM, 0, ours.detach())
    mine.setblocking(False)
    return mine, socket(AF_UNIX, SOCK_STREAM, 0, theirs.detach())


class Line:
    """The bus to one worker: what it says, and what it has not read yet."""

    __slots__ = ("_opener", "_out", "_rights", "_sent", "lost", "open", "slot", "sock")

    def __init__(self, sock: socket, slot: int) -> None:
        self.sock = sock
        self.slot = slot
        self.open = True
        self.lost = 0
        """Envelopes dropped since the worker last read everything."""
        self._opener = Opener()
        self._out = bytearray()
        self._sent = 0
        """Bytes that have left ``_out``."""
        self._rights: deque[tuple[int, Sequence[int]]] = deque()
        """Descriptors that travel with a byte, by its place in all that was ever sent."""

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def waiting(self) -> bool:
        return bool(self._out)

    def read(self) -> list[Envelope] | None:
        """What has come, None when nothing has; at the end ``open`` is False. ProtocolError when it makes no sense."""
        if not self.open:
            return None
        try:
            data = self.sock.recv(READ_SIZE)
        except BlockingIOError:
            return None
        except OSError:  # reset: the worker died with envelopes of ours unread
            data = b""
        if not data:
            self.open = False
            return None
        return [self._checked(envelope) for envelope in self._opener.feed(data)]

    def send(self, envelope: Envelope, descriptors: Sequence[int] = ()) -> bool:
        """Hand over an envelope now or when the worker reads again; False when it was dropped.

        The descriptors must stay open: the worker gets what they refer to when it reads.
        """
        if not self.open or len(self._out) + len(envelope.payload) > OUT_MAX:
            self.lost += 1
            return False
        if descriptors:
            self._rights.append((self._sent + len(self._out), descriptors))
        self._out += seal(*envelope)
        self.flush()
        return True

    def flush(self) -> None:
        while self._out and self.open:
            try:
                sent = self._push()
            except BlockingIOError:
                return
            except OSError:  # the worker is gone or has closed its end
                self.open = False
                return
            del self._out[:sent]
            self._sent += sent
        self.lost = 0

    def _push(self) -> int:
        """Send up to the next byte that descriptors travel with, or from there on; how much went."""
        places = [place - self._sent for place, _ in self._rights]
        rights = self._rights[0][1] if 0 in places else ()
        end = min([READ_SIZE, *filter(None, places)])
        with memoryview(self._out) as view, view[:end] as piece:
            if not rights:
                return self.sock.send(piece)
            sent = send_fds(self.sock, [piece], rights)
            self._rights.popleft()
            return sent

    def close(self) -> None:
        self.open = False
        self.sock.close()

    # From one program of the master to the next.

    def bequeath(self) -> dict[str, Any]:
        """The line as plain data, with its descriptor."""
        unread, unsent = b64encode(self._opener.rest()).decode(), b64encode(self._out).decode()
        return {"descriptor": self.fileno(), "open": self.open, "unread": unread, "unsent": unsent}

    @classmethod
    def inherit(cls, entry: dict[str, Any], slot: int) -> Line:
        """The line that ``bequeath`` gave."""
        sock = socket(fileno=entry["descriptor"])
        sock.set_inheritable(False)
        sock.setblocking(False)
        line = cls(sock, slot)
        line.open = entry["open"]
        line._out += b64decode(entry["unsent"])
        list(line._opener.feed(b64decode(entry["unread"])))
        return line

    def _checked(self, envelope: Envelope) -> Envelope:
        if envelope.destination != MASTER and envelope.kind in ORDERS:
            raise ProtocolError(500, f"bus message of kind {envelope.kind} to worker {envelope.destination}")
        return envelope._replace(sender=self.slot)
