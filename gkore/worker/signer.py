"""Signatures from the process that holds the private keys.

OpenSSL calls for one in the middle of a handshake and can't be left waiting there for the hub: the round trip blocks,
as signing itself would. The channel outlives the key manager at its other end: what one that died has not read, its
successor reads; what it had read is asked for again. While nobody answers, handshakes fail soon instead of holding up
everything else.
"""

from __future__ import annotations

import _socket

from gkore import log
from gkore.keys import distant
from gkore.keys.signing import PACKET_MAX, Request, ask, read_answer

PATIENCE, TRIES = 0.25, 8
"""Seconds until the same is asked again, and how often: a key manager is replaced in a tenth of that time."""
IMPATIENCE = 0.02
"""Seconds for an answer while the last request had none."""


class Signer:
    """This worker's end of its channel."""

    def __init__(self, sock: _socket.socket) -> None:
        self._sock = sock
        self._number = 0
        self._down = False

    def sign(self, request: Request) -> bytes:
        """The signature; b"" when it is refused or nobody answers."""
        self._number = self._number % 0xFFFFFFFF + 1
        packet = ask(request._replace(number=self._number))
        self._sock.settimeout(IMPATIENCE if self._down else PATIENCE)
        for _ in range(1 if self._down else TRIES):
            try:
                self._sock.send(packet)
                signature = self._answer()
            except TimeoutError:
                continue
            except OSError as failure:
                log.error(f"the channel to the key manager is closed ({failure.strerror}): TLS handshakes fail for now")
                return b""
            self._up()
            if not signature:
                log.error("the key manager has no key for a certificate, a handshake fails: SIGUSR1 reads both again")
            return signature
        if not self._down:
            log.error(f"the key manager has not answered for {PATIENCE * TRIES:g} s: TLS handshakes fail until it does")
        self._down = True
        return b""

    def _answer(self) -> bytes:
        while True:
            packet = self._sock.recv(PACKET_MAX)
            if not packet:
                raise ConnectionResetError(0, "its other end is gone")
            number, signature = read_answer(packet)
            if number == self._number:  # others are late: they were asked for again, or given up
                return signature

    def _up(self) -> None:
        if self._down:
            log.notice("the key manager answers again")
        self._down = False


def take(sock: _socket.socket) -> None:
    """Have all distant keys of this process signed for over ``sock``."""
    distant.signer = Signer(sock).sign
