"""The library beneath ``ssl``, for what that does not offer: certificates from memory, and keys that are elsewhere.

The functions are looked up in ``_ssl`` itself, so that they are those of the very libssl and libcrypto which Python
uses. A Python with OpenSSL built into it and hidden has none of them: ``Unavailable``, and callers do without. The
SSL_CTX of an ``ssl.SSLContext`` is its first field, which is nobody's promise: ``probe`` therefore tries a handshake,
and must be called in a process that may crash.

A distant key is the public half of a key with methods of ours for the private operations (RSA_METHOD and
EC_KEY_METHOD, as Kore's workers have them), which call ``signer``.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from gkore.keys.signing import DIGESTS, RSA_BYTES_MAX, Request, Scheme, is_pss

if TYPE_CHECKING:
    import ssl

P, N, LIST = ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_uint)
RSA, EC = 6, 408
SIGNATURE_MAX = RSA_BYTES_MAX
ENCRYPT = ctypes.CFUNCTYPE(N, N, P, P, P, N)
SIGN_RSA = ctypes.CFUNCTYPE(N, N, P, ctypes.c_uint, P, LIST, P)
SIGN_EC = ctypes.CFUNCTYPE(N, N, P, N, P, LIST, P, P, P)
NO_PADDING = 3
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "BIO_new_mem_buf": (P, ctypes.c_char_p, N),
    "BIO_free": (N, P),
    "PEM_read_bio_X509": (P, P, P, P, P),
    "PEM_read_bio_PrivateKey": (P, P, P, P, ctypes.c_char_p),
    "X509_free": (None, P),
    "X509_get_pubkey": (P, P),
    "i2d_PUBKEY": (N, P, ctypes.POINTER(P)),
    "OPENSSL_sk_new_null": (P,),
    "OPENSSL_sk_push": (N, P, P),
    "OPENSSL_sk_free": (None, P),
    "EVP_PKEY_new": (P,),
    "EVP_PKEY_free": (None, P),
    "EVP_PKEY_get1_RSA": (P, P),
    "EVP_PKEY_set1_RSA": (N, P, P),
    "EVP_PKEY_get1_EC_KEY": (P, P),
    "EVP_PKEY_set1_EC_KEY": (N, P, P),
    "EVP_PKEY_CTX_new": (P, P, P),
    "EVP_PKEY_CTX_free": (None, P),
    "EVP_PKEY_sign_init": (N, P),
    "EVP_PKEY_CTX_ctrl_str": (N, P, ctypes.c_char_p, ctypes.c_char_p),
    "EVP_PKEY_sign": (N, P, ctypes.c_char_p, ctypes.POINTER(ctypes.c_size_t), ctypes.c_char_p, ctypes.c_size_t),
    "RSA_meth_dup": (P, P),
    "RSA_PKCS1_OpenSSL": (P,),
    "RSA_meth_set_priv_enc": (N, P, ENCRYPT),
    "RSA_meth_set_sign": (N, P, SIGN_RSA),
    "RSA_set_method": (N, P, P),
    "RSA_free": (None, P),
    "EC_KEY_OpenSSL": (P,),
    "EC_KEY_METHOD_new": (P, P),
    "EC_KEY_METHOD_set_sign": (None, P, SIGN_EC, P, P),
    "EC_KEY_set_method": (N, P, P),
    "EC_KEY_free": (None, P),
    "ERR_clear_error": (None,),
    "SSL_CTX_use_cert_and_key": (N, P, P, P, P, N),
}
RENAMED = {"EVP_PKEY_get_id": "EVP_PKEY_id", "EVP_PKEY_get_bits": "EVP_PKEY_bits"}
"""In OpenSSL 3, and before."""

signer: Callable[[Request], bytes] | None = None
"""Signs with a distant key: b"" when it can't. A worker puts its own here; it must not switch greenlets."""


class Unavailable(Exception):
    """This Python's OpenSSL does not let us do that; says why."""


@cache
def library() -> Any:
    """OpenSSL's functions, typed. Unavailable."""
    import _ssl

    try:
        found = ctypes.CDLL(getattr(_ssl, "__file__", None))
        for name, (result, *arguments) in FUNCTIONS.items():
            _type(getattr(found, name), result, arguments)
        for name, before in RENAMED.items():
            function = getattr(found, name, None) or getattr(found, before)
            _type(function, N, [P])
            setattr(found, name, function)
    except (OSError, AttributeError) as failure:
        raise Unavailable(f"this Python hides its OpenSSL ({failure})") from None
    return found


def _type(function: Any, result: Any, arguments: list[Any]) -> None:
    function.restype, function.argtypes = result, arguments


class PrivateKey:
    """A private key in this process."""

    def __init__(self, pem: bytes) -> None:
        """ValueError when there is no key in it, or only with a password."""
        self._library = library()
        with _buffer(pem) as buffer:
            self.pointer = self._library.PEM_read_bio_PrivateKey(buffer, None, None, b"")
        if not self.pointer:
            self._library.ERR_clear_error()
            raise ValueError("there is no private key in it that can be read without a password (PEM)")
        self.name = name_of(self.pointer)
        self.kind: int = self._library.EVP_PKEY_get_id(self.pointer)

    def sign(self, request: Request) -> bytes:
        """The signature; b"" when this key does not sign such a thing."""
        if (self.kind == EC) is not (request.scheme == Scheme.ECDSA) or self.kind not in (EC, RSA):
            return b""
        if request.scheme == Scheme.PSS and not is_pss(request.data, self._library.EVP_PKEY_get_bits(self.pointer)):
            return b""
        words = {
            Scheme.ECDSA: {},
            Scheme.PKCS1: {b"rsa_padding_mode": b"pkcs1", b"digest": request.digest.encode()},
            Scheme.PSS: {b"rsa_padding_mode": b"none"},
        }
        return self._sign(words[Scheme(request.scheme)], request.data)

    def _sign(self, words: dict[bytes, bytes], data: bytes) -> bytes:
        crypto = self._library
        context = crypto.EVP_PKEY_CTX_new(self.pointer, None)
        signature = ctypes.create_string_buffer(SIGNATURE_MAX)
        length = ctypes.c_size_t(SIGNATURE_MAX)
        try:
            if crypto.EVP_PKEY_sign_init(context) != 1:
                return b""
            for name, value in words.items():
                if crypto.EVP_PKEY_CTX_ctrl_str(context, name, value) <= 0:
                    return b""
            done = crypto.EVP_PKEY_sign(context, signature, ctypes.byref(length), data, len(data))
            return signature.raw[: length.value] if done == 1 else b""
        finally:
            crypto.EVP_PKEY_CTX_free(context)
            crypto.ERR_clear_error()

    def __del__(self) -> None:
        if getattr(self, "pointer", None):
            self._library.EVP_PKEY_free(self.pointer)


def name_of(key: int) -> bytes:
    """16 bytes that name a key by its public half."""
    crypto = library()
    size = crypto.i2d_PUBKEY(key, None)
    public = ctypes.create_string_buffer(max(size, 1))
    crypto.i2d_PUBKEY(key, ctypes.byref(P(ctypes.addressof(public))))
    return hashlib.sha256(public.raw).digest()[:16]


def certified(chain: bytes) -> bytes:
    """The name of the key that a chain of certificates (PEM) speaks of. ValueError, Unavailable."""
    with _certificates(chain) as (first, _), _public(first) as key:
        return name_of(key)


def kind_of(chain: bytes) -> int:
    """Which kind of key a chain of certificates (PEM) speaks of. ValueError, Unavailable."""
    with _certificates(chain) as (first, _), _public(first) as key:
        return int(library().EVP_PKEY_get_id(key))


def install(context: ssl.SSLContext, chain: bytes, key: PrivateKey | None = None) -> None:
    """Serve a chain (PEM) from now on, signed for by ``key`` or, without one, by ``signer``. ValueError, Unavailable.

    New handshakes have it; connections and session tickets stay. A chain of another kind of key does not take the
    place of the one before: OpenSSL has a place for each kind, and the client chooses.
    """
    crypto = library()
    with _certificates(chain) as (first, others), ExitStack() as held:
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


@contextmanager
def _buffer(data: bytes) -> Iterator[int]:
    pointer = library().BIO_new_mem_buf(data, len(data))  # refers to ``data``, which its caller holds
    try:
        yield pointer
    finally:
        library().BIO_free(pointer)


@contextmanager
def _certificates(chain: bytes) -> Iterator[tuple[int, int]]:
    """The first certificate of a chain, and a stack of the others."""
    crypto = library()
    found: list[int] = []
    stack = crypto.OPENSSL_sk_new_null()
    try:
        with _buffer(chain) as buffer:
            while certificate := crypto.PEM_read_bio_X509(buffer, None, None, None):
                found.append(certificate)
        crypto.ERR_clear_error()  # the end of the chain is one
        if not found:
            raise ValueError("there is no certificate in it (PEM)")
        for certificate in found[1:]:
            crypto.OPENSSL_sk_push(stack, certificate)
        yield found[0], stack
    finally:
        for certificate in found:
            crypto.X509_free(certificate)
        crypto.OPENSSL_sk_free(stack)


@contextmanager
def _public(certificate: int) -> Iterator[int]:
    key = library().X509_get_pubkey(certificate)
    try:
        yield key
    finally:
        library().EVP_PKEY_free(key)


# Distant keys

_names: dict[int, bytes] = {}
"""The RSA or EC_KEY that OpenSSL calls us with: the name of its key. Contexts hold them for as long as they live."""


@contextmanager
def _distant(certificate: int) -> Iterator[int]:
    """A key made of a certificate's public half, with our methods for what takes the private one."""
    crypto = library()
    with _public(certificate) as public:
        kinds = {RSA: ("RSA", _rsa_method), EC: ("EC_KEY", _ec_method)}
        kind = crypto.EVP_PKEY_get_id(public)
        if kind not in kinds:
            raise Unavailable("only RSA and ECDSA keys can be elsewhere")
        word, method = kinds[kind]
        inner = getattr(crypto, f"EVP_PKEY_get1_{word}")(public)
        _names[inner] = name_of(public)
        if getattr(crypto, "RSA_set_method" if kind == RSA else "EC_KEY_set_method")(inner, method()) != 1:
            raise Unavailable("this OpenSSL takes no methods for keys")
        key = crypto.EVP_PKEY_new()
        try:
            getattr(crypto, f"EVP_PKEY_set1_{word}")(key, inner)
            yield key
        finally:
            crypto.EVP_PKEY_free(key)
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


def _asked(key: int, scheme: Scheme, digest: str, data: int, size: int, room: int) -> int:
    """Have something signed and put the signature into OpenSSL's memory; its length, 0 without one."""
    try:
        assert signer is not None
        signature = signer(Request(0, _names[key], scheme, digest, ctypes.string_at(data, size)))
    except Exception:  # nothing may be raised into OpenSSL: the handshake fails by the missing signature
        return 0
    ctypes.memmove(room, signature, len(signature))
    return len(signature)


def _encrypt(size: int, data: int, room: int, key: int, padding: int) -> int:
    """RSA-PSS comes here, padded already."""
    if padding != NO_PADDING:
        return -1
    return _asked(key, Scheme.PSS, "", data, size, room) or -1


def _sign_rsa(digest: int, data: int, size: int, room: int, length: Any, key: int) -> int:
    length[0] = _asked(key, Scheme.PKCS1, DIGESTS.get(digest, ""), data, size, room)
    return 1 if length[0] else 0


def _sign_ec(_: int, data: int, size: int, room: int, length: Any, __: int, ___: int, key: int) -> int:
    length[0] = _asked(key, Scheme.ECDSA, "", data, size, room)
    return 1 if length[0] else 0


ENCRYPTS, SIGNS_RSA, SIGNS_EC = ENCRYPT(_encrypt), SIGN_RSA(_sign_rsa), SIGN_EC(_sign_ec)
"""OpenSSL calls them: they must live as long as the process."""
