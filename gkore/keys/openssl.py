"""The library beneath ``ssl``, for what that does not offer: private keys that sign, certificates taken apart.

The functions are looked up in ``_ssl`` itself, so that they are those of the very libssl and libcrypto which Python
uses. A Python with OpenSSL built into it and hidden has none of them: ``Unavailable``, and callers do without.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from gkore.keys.signing import RSA_BYTES_MAX, Request, Scheme, is_pss

P, N, LIST, SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_uint), ctypes.POINTER(ctypes.c_size_t)
RSA, EC, ED25519, ED448 = 6, 408, 1087, 1088
SIGNS = {RSA: (Scheme.PKCS1, Scheme.PSS), EC: (Scheme.ECDSA,), ED25519: (Scheme.EDDSA,), ED448: (Scheme.EDDSA,)}
"""What each kind of key signs in TLS (RFC 8446 4.2.3)."""
SIGNATURE_MAX = RSA_BYTES_MAX
ENCRYPT = ctypes.CFUNCTYPE(N, N, P, P, P, N)
SIGN_RSA = ctypes.CFUNCTYPE(N, N, P, ctypes.c_uint, P, LIST, P)
SIGN_EC = ctypes.CFUNCTYPE(N, N, P, N, P, LIST, P, P, P)
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
    "EVP_PKEY_sign": (N, P, ctypes.c_char_p, SIZE, ctypes.c_char_p, ctypes.c_size_t),
    "EVP_PKEY_get_raw_private_key": (N, P, ctypes.c_char_p, SIZE),
    "EVP_PKEY_CTX_get0_pkey": (P, P),
    "EVP_MD_CTX_new": (P,),
    "EVP_MD_CTX_free": (None, P),
    "EVP_DigestSignInit": (N, P, P, P, P, P),
    "EVP_DigestSign": (N, P, ctypes.c_char_p, SIZE, ctypes.c_char_p, ctypes.c_size_t),
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
RENAMED: dict[str, tuple[str, Any]] = {
    "EVP_PKEY_get_id": ("EVP_PKEY_id", N),
    "EVP_PKEY_get_bits": ("EVP_PKEY_bits", N),
    "EVP_MD_CTX_get_pkey_ctx": ("EVP_MD_CTX_pkey_ctx", P),
}
"""In OpenSSL 3, and before."""
OTHER_PYTHON = (
    "take a Python that shares the system's OpenSSL (the distribution's, one built from source, python.org's container "
    "images; not uv's), end TLS in a proxy in front, or do without privsep keymgr: keys are then in the workers"
)
OTHER_KEY = "take an ECDSA key (P-256)"


class Unavailable(Exception):
    """This Python's OpenSSL does not let us do that; says why, and ``advice`` what to do about it."""

    def __init__(self, why: str, advice: str) -> None:
        super().__init__(why)
        self.advice = advice


@cache
def library() -> Any:
    """OpenSSL's functions, typed. Unavailable."""
    import _ssl

    try:
        found = ctypes.CDLL(getattr(_ssl, "__file__", None))
        declare(found, FUNCTIONS)
        for name, (before, result) in RENAMED.items():
            function = getattr(found, name, None) or getattr(found, before)
            function.restype, function.argtypes = result, [P]
            setattr(found, name, function)
    except (OSError, AttributeError) as failure:
        raise Unavailable(f"this Python hides its OpenSSL ({failure})", OTHER_PYTHON) from None
    return found


def declare(found: Any, functions: dict[str, tuple[Any, ...]]) -> None:
    """Type functions of the library. AttributeError for one that it does not have."""
    for name, (result, *arguments) in functions.items():
        function = getattr(found, name)
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
        if request.scheme not in SIGNS.get(self.kind, ()):
            return b""
        if request.scheme == Scheme.EDDSA:
            return self._sign_message(request.data)
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

    def _sign_message(self, data: bytes) -> bytes:
        """As Ed25519 and Ed448 do it: the message itself, no digest of it (RFC 8032)."""
        crypto = self._library
        context = crypto.EVP_MD_CTX_new()
        signature = ctypes.create_string_buffer(SIGNATURE_MAX)
        length = ctypes.c_size_t(SIGNATURE_MAX)
        try:
            done = crypto.EVP_DigestSignInit(context, None, None, None, self.pointer) == 1
            done = done and crypto.EVP_DigestSign(context, signature, ctypes.byref(length), data, len(data)) == 1
            return signature.raw[: length.value] if done else b""
        finally:
            crypto.EVP_MD_CTX_free(context)
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


def kind_of(chain: bytes) -> int:
    """Which kind of key a chain of certificates (PEM) speaks of. ValueError, Unavailable."""
    with certificates(chain) as (first, _), public(first) as key:
        return int(library().EVP_PKEY_get_id(key))


@contextmanager
def _buffer(data: bytes) -> Iterator[int]:
    pointer = library().BIO_new_mem_buf(data, len(data))  # refers to ``data``, which its caller holds
    try:
        yield pointer
    finally:
        library().BIO_free(pointer)


@contextmanager
def certificates(chain: bytes) -> Iterator[tuple[int, int]]:
    """The first certificate of a chain (PEM), and a stack of the others. ValueError, Unavailable."""
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
def public(certificate: int) -> Iterator[int]:
    """The key that a certificate speaks of."""
    key = library().X509_get_pubkey(certificate)
    try:
        yield key
    finally:
        library().EVP_PKEY_free(key)
