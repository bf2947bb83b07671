"""From a domain's certificate, key and settings to the context that its TLS connections are made with.

Contexts are made by whoever reads the conf, before a worker is forked: while the key can still be read, and so that all
workers share the keys of session tickets. Domains that say the same share one context.

With a ``privsep keymgr`` block the private key is only looked at in a process that is thrown away: what the master has
in its memory, every worker has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from gkore.conf.site import Domain, Server, Site
from gkore.keys import distant, openssl
from gkore.keys.aside import aside

if TYPE_CHECKING:
    import ssl  # otherwise only when it is needed: the standard library is patched between

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 4.2)."""
CLEARER = {
    "no certificate assigned": "key values mismatch (it is not even of the certificate's kind)",
    "key values mismatch": "key values mismatch (it belongs to another certificate)",
    "ee key too small": "too small for OpenSSL's security level: make one of 2048 bits or more, or ECDSA P-256",
    "ca md too weak": "signed with a digest that is no longer trusted (SHA-1, MD5): get a newer certificate",
}
"""OpenSSL's reasons, for people."""
DER = {"CERTIFICATE": "x509", "PRIVATE KEY": "pkey"}
VERSIONS = {"both": ("TLSv1_2", "TLSv1_3"), "1.2": ("TLSv1_2", "TLSv1_2"), "1.3": ("TLSv1_3", "TLSv1_3")}


def speaks_tls(site: Site, server: Server) -> bool:
    """A server of Kore 4 does unless it says ``tls no``; that of Kore 3 when some domain has certificates."""
    if server.tls is not None:
        return server.tls
    return any(domain.certfile or domain.acme for domain in site.domains_of(server.name))


def make_contexts(site: Site, settings: Any) -> Iterable[tuple[Domain, str]]:
    """Give every domain with certificates its context; those whose files are wrong come back with what is wrong."""
    known: dict[tuple[Any, ...], ssl.SSLContext] = {}
    for domain in site.domains:
        if domain.acme or not (domain.certfile and domain.certkey):
            continue
        verify = (domain.client_verify, domain.client_crl, domain.client_verify_depth)
        key = (domain.certfile, domain.certkey, *verify)
        try:
            domain.context = known[key] = known.get(key) or make_context(domain, settings, keys_apart(site))
        except Refused as refused:
            yield domain, str(refused)


def keys_apart(site: Site) -> bool:
    """Whether private keys are for the key manager only: when the conf says a word about it."""
    return "keymgr" in site.privseps


class Refused(Exception):
    """OpenSSL does not take a file or a setting."""


def make_context(domain: Domain, settings: Any, apart: bool = False) -> ssl.SSLContext:
    """A context for one domain. Refused says which file or setting is at fault."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lowest, highest = VERSIONS[settings.tls_version]
    context.minimum_version, context.maximum_version = ssl.TLSVersion[lowest], ssl.TLSVersion[highest]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # closed without a farewell: HTTP knows its lengths
    context.set_alpn_protocols(["http/1.1"])
    _try(f"tls_cipher {settings.tls_cipher}", context.set_ciphers, settings.tls_cipher or CIPHERS)
    if settings.tls_dhparam:
        _try(f"tls_dhparam {settings.tls_dhparam}", context.load_dh_params, settings.tls_dhparam)
    _try(f"certfile {domain.certfile}", _whole, domain.certfile, "CERTIFICATE")
    if apart:
        chain = read(domain.certfile)
        refuse(aside(lambda: try_key(domain, chain)))
        distant.install(context, chain)
    else:
        _load(context, domain)
    if domain.client_verify:
        context.verify_mode = ssl.CERT_REQUIRED
        _try(f"client_verify {domain.client_verify}", context.load_verify_locations, domain.client_verify)
        if domain.client_crl:
            _try(f"client_verify {domain.client_crl}", context.load_verify_locations, domain.client_crl)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def read(path: str) -> bytes:
    """A file, whole. OSError."""
    with open(path, "rb") as file:
        return file.read()


def refuse(wrong: str) -> None:
    """Refused, when something is wrong."""
    if wrong:
        raise Refused(wrong)


def try_key(domain: Domain, chain: bytes) -> str:
    """What is wrong with a domain's key, or with keeping it apart; for a process that is thrown away."""
    wrong = try_pair(domain)
    if wrong:
        return wrong
    try:
        key = openssl.PrivateKey(read(domain.certkey))
        distant.probe(chain, key)
    except openssl.Unavailable as failure:
        return f"privsep keymgr can't hold the certkey {domain.certkey}: {failure}; {failure.advice}"
    except (ValueError, OSError) as failure:
        return str(failure)
    return ""


def try_pair(domain: Domain) -> str:
    """What is wrong with a domain's certificate and key."""
    import ssl

    scratch = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        _load(scratch, domain)
    except Refused as refused:
        return str(refused)
    return ""


def take(site: Site, news: Iterable[Sequence[Any]]) -> None:
    """Put new pairs into the contexts of this process: place of the domain, chain, and key unless that is elsewhere.

    Handshakes from now on have them; connections and session tickets stay. openssl.Unavailable, ValueError.
    """
    for index, chain, key in news:
        pair = openssl.PrivateKey(key.encode("latin-1")) if key else None
        distant.install(site.domains[index].context, chain.encode("latin-1"), pair)


def _load(context: ssl.SSLContext, domain: Domain) -> None:
    """A certificate with its key. Refused."""
    what = f"certkey {domain.certkey}"
    _try(what, _whole, domain.certkey, "PRIVATE KEY")
    _try(what, context.load_cert_chain, domain.certfile, domain.certkey, _no_password)


def _whole(path: str, word: str) -> None:
    """OSError, ValueError for what OpenSSL has no good words for."""
    text = read(path)
    if f"{word}-----".encode() not in text:
        way = f"; it is DER: `openssl {DER[word]} -inform der -in {path} -out NEW`" if text[:1] == b"0" else ""
        raise ValueError(f"there is no {word.lower()} in it (PEM){way}")
    if text.count(b"-----BEGIN ") != text.count(b"-----END "):
        raise ValueError("it is cut off: an -----END line is missing")


def _no_password() -> str:
    raise ValueError("the key is encrypted; gkore can't ask for its password (`openssl pkey -in KEY -out NEW`)")


def _try(what: str, function: Any, *arguments: Any) -> None:
    from ssl import SSLError

    try:
        function(*arguments)
    except SSLError as failure:
        # set_ciphers raises one without a reason
        reason = (getattr(failure, "reason", None) or str(failure)).lower().strip("(),'").replace("_", " ")
        reason = "what is between the BEGIN and END lines is damaged" if "pem lib" in reason else reason
        raise Refused(f"{what}: {CLEARER.get(reason, reason)}") from None
    except OSError as failure:
        raise Refused(f"{what}: {failure.strerror or failure}") from None
    except ValueError as failure:
        raise Refused(f"{what}: {failure}") from None
