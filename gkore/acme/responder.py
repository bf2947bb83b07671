"""The answer to the CA's challenge, tls-alpn-01 (RFC 8737).

Workers peek at the first message of every TLS client anyway. One that offers ``acme-tls/1`` is no client of theirs: its
whole connection, with nothing of it read, is handed to this process (SCM_RIGHTS), and answered here. So no worker ever
needs to learn of a challenge, and all of them can serve it from their first connection on.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from select import POLLIN, POLLOUT, poll
from time import monotonic
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto

from gkore.protocol.hello import ACME_PROTOCOL

ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
"""id-pe-acmeIdentifier (RFC 8737 3)."""
HANDSHAKES_MAX = 16
"""At once. Anybody may offer the protocol; a CA looks from a handful of places."""
TIME_MAX = 10
"""Seconds for a whole handshake."""
OCTETS = b"\x04\x20"
"""DER: an octet string of 32 bytes."""


def challenge_certificate(name: str, digest: bytes) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The self-signed certificate that proves a name: one SAN, and the digest of the key authorization, critical."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "challenge")])
    builder = x509.CertificateBuilder().subject_name(who).issuer_name(who).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    identifier = x509.UnrecognizedExtension(ACME_IDENTIFIER, OCTETS + digest)
    return builder.add_extension(identifier, critical=True).sign(key, hashes.SHA256()), key


def _context(name: str, digest: bytes) -> Any:
    certificate, key = challenge_certificate(name, digest)
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate(crypto.X509.from_cryptography(certificate))
    context.use_privatekey(crypto.PKey.from_cryptography_key(key))
    context.set_alpn_select_callback(lambda _, offered: ACME_PROTOCOL if ACME_PROTOCOL in offered else b"")
    return context


class Responder:
    """Answers connections that come over ``sock`` while challenges are open; closes them at once when none is."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._contexts: dict[str, Any] = {}
        self._room = threading.BoundedSemaphore(HANDSHAKES_MAX)

    @contextmanager
    def answering(self, name: str, digest: bytes) -> Iterator[None]:
        """Prove ``name`` while this lasts; ``digest`` is SHA-256 of the key authorization."""
        self._contexts[name] = _context(name, digest)
        try:
            yield
        finally:
            del self._contexts[name]

    def serve(self) -> None:
        """Take connections until the workers' end is closed: a thread's whole life."""
        while True:
            try:
                said, descriptors, _, _ = socket.recv_fds(self._sock, 1, 1)
            except OSError:
                return
            if not said:
                return
            for descriptor in descriptors:
                self._take(socket.socket(fileno=descriptor))

    def _take(self, client: socket.socket) -> None:
        if not self._contexts or not self._room.acquire(blocking=False):
            client.close()
            return
        try:
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()
        except RuntimeError:  # no thread to be had
            self._room.release()
            client.close()

    def _answer(self, client: socket.socket) -> None:
        try:
            self._shake_hands(client)
        finally:
            client.close()
            self._room.release()

    def _shake_hands(self, client: socket.socket) -> None:
        client.setblocking(False)
        bare = SSL.Context(SSL.TLS_SERVER_METHOD)
        bare.set_tlsext_servername_callback(self._choose)
        tls = SSL.Connection(bare, client)
        tls.set_accept_state()
        end, waiter = monotonic() + TIME_MAX, poll()
        with suppress(SSL.Error, OSError):
            while (wanted := _step(tls)) and (left := end - monotonic()) > 0:
                waiter.register(client, wanted)
                waiter.poll(left * 1000)
            if not wanted:
                tls.shutdown()  # "the server MUST ... close the connection" (RFC 8737 3): nothing is ever said in it

    def _choose(self, tls: Any) -> None:
        """The context of the name; without one the handshake fails for want of a certificate."""
        name = (tls.get_servername() or b"").decode("ascii", "replace").lower()
        context = self._contexts.get(name)
        if context is not None:
            tls.set_context(context)


def _step(tls: Any) -> int:
    """Go on with a handshake; what it waits for then, 0 at its end. SSL.Error."""
    try:
        tls.do_handshake()
    except SSL.WantReadError:
        return POLLIN
    except SSL.WantWriteError:
        return POLLOUT
    return 0
