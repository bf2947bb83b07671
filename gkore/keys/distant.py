"""Keys that are elsewhere: contexts serve a certificate, and whoever has its key is asked for signatures.

A distant key is the public half of a key with methods of ours for the private operations, which call ``signer``. RSA
and ECDSA keys have theirs each (RSA_METHOD and EC_KEY_METHOD, as Kore's workers have them). Ed25519 and Ed448 know no
such thing: their method is the process's, for all keys of the kind, and goes on to OpenSSL's own when a key has its
private half.

The SSL_CTX of an ``ssl.SSLContext`` is its first field, which is nobody's promise: ``probe`` therefore tries a
handshake, and must be called in a process that may crash.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from gkore.keys.openssl import (
    EC,
    ED448,
    ED25519,
    ENCRYPT,
    OTHER_KEY,
    OTHER_PYTHON,
    RSA,
    SIGN_EC,
    SIGN_RSA,
    SIZE,
    N,
    P,
    PrivateKey,
    Unavailable,
    certificates,
    declare,
    library,
    name_of,
    public,
)
from gkore.keys.signing import DIGESTS, Request, Scheme

if TYPE_CHECKING:
    import ssl

NO_PADDING = 3
SIGN_ED = ctypes.CFUNCTYPE(N, P, P, SIZE, P, ctypes.c_size_t)
SIGNATURE_SIZES = {ED25519: 64, ED448: 114}
"""Bytes (RFC 8032 5.1.6, 5.2.6)."""
EDWARDS: dict[str, tuple[Any, ...]] = {
    "EVP_PKEY_meth_find": (P, N),
    "EVP_PKEY_meth_get0_info": (None, ctypes.POINTER(N), ctypes.POINTER(N), P),
    "EVP_PKEY_meth_new": (P, N, N),
    "EVP_PKEY_meth_copy": (None, P, P),
    "EVP_PKEY_meth_get_digestsign": (None, P, ctypes.POINTER(P)),
    "EVP_PKEY_meth_set_digestsign": (None, P, SIGN_ED),
    "EVP_PKEY_meth_add0": (N, P),
}
"""OpenSSL 4 has none of these."""

signer: Callable[[Request], bytes] | None = None
"""Signs with a distant key: b"" when it can't. A worker puts its own here; it must not switch greenlets."""


def install(context: ssl.SSLContext, chain: bytes, key: PrivateKey | None = None) -> None:
    """Serve a chain (PEM) from now on, signed for by ``key`` or, without one, by ``signer``. ValueError, Unavailable.

    New handshakes have it; connections and session tickets stay. A chain of another kind of key does not take the
    place of the one before: OpenSSL has a place for each kind, and the client chooses.
    """
    crypto = library()
    with certificates(chain) as (first, others), ExitStack() as held:
        pointer = key.pointer if key is not None else held.enter_context(_distant(first))
        field = P.from_address(id(context) + object.__basicsize__).value
        if crypto.SSL_CTX_use_cert_and_key(field, first, pointer, others, 1) != 1:
            crypto.ERR_clear_error()
            raise ValueError("OpenSSL does not take the certificate with its key")


def probe(chain: bytes, key: PrivateKey) -> None:
    """Try a handshake with a distant key whose signatures are made here. It may crash: have a process for it.

    Unavailable, ValueError, ssl.SSLError.
    """
    import ssl

    global signer
    before, signer = signer, key.sign
    try:
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        install(server, chain)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
        while ends:
            ends = [end for end in ends if not _shaken(end)]
    finally:
        signer = before


def _shaken(end: ssl.SSLObject) -> bool:
    from ssl import SSLWantReadError

    try:
        end.do_handshake()
    except SSLWantReadError:
        return False
    return True


_names: dict[int, bytes] = {}
"""The RSA or EC_KEY that OpenSSL calls us with: the name of its key. Contexts hold them for as long as they live."""


@contextmanager
def _distant(certificate: int) -> Iterator[int]:
    """A key made of a certificate's public half, with our methods for what takes the private one."""
    kinds = {RSA: ("RSA", _rsa_method), EC: ("EC_KEY", _ec_method)}
    with public(certificate) as key:
        kind = library().EVP_PKEY_get_id(key)
        if kind in SIGNATURE_SIZES:
            _edwards_method(kind)
            yield key
        elif kind in kinds:
            word, method = kinds[kind]
            with _equipped(key, word, method()) as equipped:
                yield equipped
        else:
            raise Unavailable("only RSA, ECDSA, Ed25519 and Ed448 keys can be elsewhere", OTHER_KEY)


@contextmanager
def _equipped(key: int, word: str, method: int) -> Iterator[int]:
    """A key like a public one, with a method."""
    crypto = library()
    inner = getattr(crypto, f"EVP_PKEY_get1_{word}")(key)
    _names[inner] = name_of(key)
    if getattr(crypto, f"{word}_set_method")(inner, method) != 1:
        raise Unavailable("this OpenSSL takes no methods for keys", OTHER_PYTHON)
    made = crypto.EVP_PKEY_new()
    try:
        getattr(crypto, f"EVP_PKEY_set1_{word}")(made, inner)
        yield made
    finally:
        crypto.EVP_PKEY_free(made)
        getattr(crypto, f"{word}_free")(inner)


@cache
def _rsa_method() -> int:
    crypto = library()
    method: int = crypto.RSA_meth_dup(crypto.RSA_PKCS1_OpenSSL())
    crypto.RSA_meth_set_priv_enc(method, ENCRYPTS)
    crypto.RSA_meth_set_sign(method, SIGNS_RSA)
    return method


@cache
def _ec_method() -> int:
    crypto = library()
    method: int = crypto.EC_KEY_METHOD_new(crypto.EC_KEY_OpenSSL())
    crypto.EC_KEY_METHOD_set_sign(method, SIGNS_EC, None, None)
    return method


_own: dict[int, Any] = {}
"""How OpenSSL itself signs with Ed25519 and Ed448, by their numbers."""


@cache
def _edwards_method(kind: int) -> None:
    """From now on OpenSSL asks us for every signature of a kind."""
    crypto = library()
    try:
        declare(crypto, EDWARDS)
    except AttributeError as failure:
        raise Unavailable(f"this OpenSSL asks nobody for Ed25519 signatures ({failure})", OTHER_KEY) from None
    before, number, flags, own = crypto.EVP_PKEY_meth_find(kind), N(), N(), P()
    crypto.EVP_PKEY_meth_get0_info(ctypes.byref(number), ctypes.byref(flags), before)
    crypto.EVP_PKEY_meth_get_digestsign(before, ctypes.byref(own))
    _own[kind] = SIGN_ED(own.value or 0)
    method = crypto.EVP_PKEY_meth_new(kind, flags.value)
    crypto.EVP_PKEY_meth_copy(method, before)
    crypto.EVP_PKEY_meth_set_digestsign(method, SIGNS_ED)
    if crypto.EVP_PKEY_meth_add0(method) != 1:
        raise Unavailable("this OpenSSL takes no method for Ed25519", OTHER_KEY)


def _asked(name: bytes, scheme: Scheme, digest: str, data: int, size: int, room: int) -> int:
    """Have something signed and put the signature into OpenSSL's memory; its length, 0 without one."""
    try:
        assert signer is not None
        signature = signer(Request(0, name, scheme, digest, ctypes.string_at(data, size)))
    except Exception:  # nothing may be raised into OpenSSL: the handshake fails by the missing signature
        return 0
    ctypes.memmove(room, signature, len(signature))
    return len(signature)


def _encrypt(size: int, data: int, room: int, key: int, padding: int) -> int:
    """RSA-PSS comes here, padded already."""
    if padding != NO_PADDING:
        return -1
    return _asked(_names[key], Scheme.PSS, "", data, size, room) or -1


def _sign_rsa(digest: int, data: int, size: int, room: int, length: Any, key: int) -> int:
    length[0] = _asked(_names[key], Scheme.PKCS1, DIGESTS.get(digest, ""), data, size, room)
    return 1 if length[0] else 0


def _sign_ec(_: int, data: int, size: int, room: int, length: Any, __: int, ___: int, key: int) -> int:
    length[0] = _asked(_names[key], Scheme.ECDSA, "", data, size, room)
    return 1 if length[0] else 0


def _sign_ed(context: int, room: int | None, length: Any, data: int, size: int) -> int:
    """OpenSSL asks for the length first, without room for a signature."""
    crypto = library()
    key = crypto.EVP_PKEY_CTX_get0_pkey(crypto.EVP_MD_CTX_get_pkey_ctx(context))
    kind = crypto.EVP_PKEY_get_id(key)
    if _is_whole(key):
        return int(_own[kind](context, room, length, data, size))
    if room and not _asked(name_of(key), Scheme.EDDSA, "", data, size, room):
        return 0
    length[0] = SIGNATURE_SIZES[kind]
    return 1


def _is_whole(key: int) -> bool:
    """Whether the private half is here, too."""
    crypto = library()
    room, length = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
    found: int = crypto.EVP_PKEY_get_raw_private_key(key, room, ctypes.byref(length))
    ctypes.memset(room, 0, 64)
    crypto.ERR_clear_error()
    return found == 1


ENCRYPTS, SIGNS_RSA, SIGNS_EC, SIGNS_ED = ENCRYPT(_encrypt), SIGN_RSA(_sign_rsa), SIGN_EC(_sign_ec), SIGN_ED(_sign_ed)
"""OpenSSL calls them: they must live as long as the process."""
