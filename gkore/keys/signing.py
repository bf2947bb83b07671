"""What a worker asks of the process that holds the private keys: one signature a message, and nothing else.

A request names the key by its public half, the scheme and the digest to be signed; the answer repeats the number. Both
are single packets of a SOCK_SEQPACKET socket. A raw RSA operation could as well decrypt what somebody recorded, so
that blocks of RSA-PSS, which OpenSSL pads on the asking side, are only taken when they are that: see ``is_pss``.
"""

from __future__ import annotations

import hashlib
import struct
from enum import IntEnum
from typing import NamedTuple

REQUEST = struct.Struct("!I16sBB")
ANSWER = struct.Struct("!IB")
PACKET_MAX = 4096
DIGESTS = {672: "SHA256", 673: "SHA384", 674: "SHA512", 675: "SHA224"}
"""OpenSSL's numbers of the digests that TLS 1.2 and 1.3 sign with RSA PKCS #1 (RFC 8446 4.2.3)."""
SIZES = {"SHA224": 28, "SHA256": 32, "SHA384": 48, "SHA512": 64}
RSA_BYTES_MAX = 2048
TLS_1_3 = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"
"""What a server signs begins so (RFC 8446 4.4.3)."""
RANDOMS = 64
NAMED_CURVE = 3


class Scheme(IntEnum):
    """How to sign."""

    ECDSA = 1
    PKCS1 = 2
    PSS = 3
    EDDSA = 4


class Request(NamedTuple):
    """One signature that is wanted."""

    number: int
    key: bytes
    """See ``openssl.name_of``."""
    scheme: int
    digest: str
    """Its name, with PKCS1; else empty."""
    data: bytes


def ask(request: Request) -> bytes:
    """The packet of a request."""
    digest = next((index for index, name in enumerate(SIZES, 1) if name == request.digest), 0)
    return REQUEST.pack(request.number, request.key, request.scheme, digest) + request.data


def read_request(packet: bytes) -> Request | None:
    """The request in a packet; None for anything that nobody signs."""
    if not REQUEST.size < len(packet) <= REQUEST.size + RSA_BYTES_MAX:
        return None
    number, key, scheme, digest = REQUEST.unpack_from(packet)
    data = packet[REQUEST.size :]
    if digest > len(SIZES):
        return None
    name = list(SIZES)[digest - 1] if digest else ""
    fits: dict[int, bool] = {
        Scheme.ECDSA: not name and 20 <= len(data) <= 64,
        Scheme.PKCS1: bool(name) and len(data) == SIZES.get(name),
        Scheme.PSS: not name and len(data) >= 64,
        Scheme.EDDSA: not name and is_handshake(data),
    }
    return Request(number, key, scheme, name, data) if fits.get(scheme) else None


def answer(number: int, signature: bytes) -> bytes:
    """The packet of an answer; an empty signature is a refusal."""
    return ANSWER.pack(number, bool(signature)) + signature


def read_answer(packet: bytes) -> tuple[int, bytes]:
    """The number of the request and the signature, b"" when it was refused."""
    if len(packet) < ANSWER.size:
        return 0, b""
    number, signed = ANSWER.unpack_from(packet)
    return number, packet[ANSWER.size :] if signed else b""


def is_handshake(message: bytes) -> bool:
    """Whether a message is what a TLS server signs: Ed25519 and Ed448 sign messages, so that one can look at them.

    That is the digest of a handshake with words in front (RFC 8446 4.4.3), or two random numbers with the server's half
    of the key exchange (RFC 8422 5.4), and no certificate, no token, no mail.
    """
    if message.startswith(TLS_1_3):
        return len(message) - len(TLS_1_3) in (32, 48)
    exchange = message[RANDOMS:]
    return len(exchange) > 4 and exchange[0] == NAMED_CURVE and len(exchange) == 4 + exchange[3]


def is_pss(block: bytes, bits: int) -> bool:
    """Whether a block is padded as RSA-PSS (RFC 8017 9.1.1) for a key of ``bits`` bits, the way TLS does it.

    That is: MGF1 with the digest of the message, and a salt as long as that. A ciphertext that somebody wants
    decrypted looks so once in 2^(bits/2) times.
    """
    size = (bits - 1 + 7) // 8
    surplus = len(block) - size
    if len(block) != (bits + 7) // 8 or any(block[:surplus]) or block[-1] != 0xBC:
        return False
    block = block[surplus:]
    spare = 8 * size - (bits - 1)
    if block[0] >> (8 - spare):
        return False
    return any(_unmasks(block, name, spare) for name in ("sha256", "sha384", "sha512"))


def _unmasks(block: bytes, name: str, spare: int) -> bool:
    length = hashlib.new(name).digest_size
    room = len(block) - length - 1
    zeros = room - length - 1
    if zeros < 0:
        return False
    masked, seed = block[:room], block[room:-1]
    mask = b"".join(hashlib.new(name, seed + n.to_bytes(4)).digest() for n in range(room // length + 1))[:room]
    plain = (int.from_bytes(masked) ^ int.from_bytes(mask)).to_bytes(room)
    first = plain[0] & (0xFF >> spare)
    return bytes([first]) + plain[1 : zeros + 1] == bytes(zeros) + b"\x01" if zeros else first == 1
