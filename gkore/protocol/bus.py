"""The envelopes that the master and its workers exchange over one socketpair a worker.

An envelope is a fixed head (payload length, kind, sender, destination) and opaque payload. The master relays payloads
between workers without looking into them: workers are less privileged than it, so it must not unpickle what they say.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from gkore.errors import ProtocolError

HEAD = struct.Struct("!IBHH")
PAYLOAD_MAX = 16 * 1024 * 1024
REASON_MAX = 65536
"""Bytes of a reason why code is not served, as one process tells it another; its end is what matters."""

MASTER = 0
EVERYBODY = 0xFFFF
"""Destination: every worker, the sender included (who wants to leave itself out does so on arrival)."""


class Kind(IntEnum):
    """What an envelope is about."""

    READY = 1
    """Worker to master: the hooks have run, connections are being accepted."""
    SHUTDOWN = 2
    """Worker to master: ``kore.shutdown()``, stop the server."""
    DRAIN = 4
    """Master to worker: finish what is in flight and leave; the payload says why (``stop`` or ``reload``), and behind
    ``reload`` the inodes of listening sockets that have no successor: what waits in them is served.
    Worker to master: it accepts nothing any more."""
    OBJECT = 5
    """Worker to workers: ``kore.sendobj``, a pickle."""
    BROADCAST = 6
    """Worker to workers: a websocket frame, encoded once."""
    WORN = 7
    """Worker to master: it has served enough (``max_requests``, ``worker_rss_max``) and wants a successor; says why."""
    CERTIFICATES = 8
    """Master to worker: certificates that were read again, and their keys unless those are the key manager's; see
    ``conf.certificates.take``."""
    REFUSED = 9
    """Worker to master: why it could not start. Master to worker: why newer code is not served (``deployment dev``)."""
    LOGS = 10
    """Master to worker: log files that were opened again, their names as JSON ("" is the log itself); their descriptors
    travel with the envelope's first byte."""
    ACME = 16
    """Between the master and the process that gets certificates; see ``protocol.commission``."""


class Envelope(NamedTuple):
    """One message: who says what to whom."""

    kind: int
    sender: int
    destination: int
    payload: bytes


def reason(text: str) -> bytes:
    """Why code is not served, as a payload of ``Kind.REFUSED``."""
    return text.encode("utf-8", "backslashreplace")[-REASON_MAX:]


def seal(kind: int, sender: int, destination: int, payload: bytes = b"") -> bytes:
    """The bytes of one envelope. ValueError when the payload is larger than PAYLOAD_MAX."""
    if len(payload) > PAYLOAD_MAX:
        raise ValueError(f"a message between workers may hold {PAYLOAD_MAX} bytes, this one has {len(payload)}")
    return HEAD.pack(len(payload), kind, sender, destination) + payload


class Opener:
    """Turns a byte stream back into envelopes. ProtocolError when a length is out of bounds: drop that peer."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def rest(self) -> bytes:
        """The beginning of an envelope that has not come whole yet."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> Iterator[Envelope]:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= HEAD.size:
            length, kind, sender, destination = HEAD.unpack_from(buffer)
            if length > PAYLOAD_MAX:
                raise ProtocolError(500, f"bus message of {length} bytes")
            end = HEAD.size + length
            if len(buffer) < end:
                return
            payload = bytes(buffer[HEAD.size : end])
            del buffer[:end]
            yield Envelope(kind, sender, destination, payload)
