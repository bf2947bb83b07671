"""Keys, requests and chains of the domains with ``acme yes``, in files that are root's (``acme_directory``, mode 0700).

    DOMAIN/key.pem       made once and kept; remove it and reload for another one
    DOMAIN/request.pem   what the CA is to sign, made with the key: who speaks to the CA needs no more
    DOMAIN/chain.pem     what the CA signed; before that a placeholder, signed with the domain's own key, as Kore has
    account/             the directory of the acme process, the only one that it sees

Keys are made and looked at in processes that are thrown away: what the master has in its memory, its workers have.
The key stays and the chain is replaced in one rename: whoever reads the two always finds a pair.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gkore.conf.certificates import Refused, keys_apart, make_context
from gkore.durable import replace_file
from gkore.errors import StartError
from gkore.keys.aside import aside
from gkore.master.certificates import PLACEHOLDER, ends_at, is_placeholder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gkore.conf.application import Application
    from gkore.conf.site import Domain
    from gkore.master.privileges import User

PLACEHOLDER_DAYS = 3650
ACCOUNT = "account"
"""A domain may have this name, too: ``account@`` is no domain's."""


def directory(application: Application) -> str:
    """Where it all is: below the root of ``privsep acme``, systemd's StateDirectory, or here."""
    above = application.site.privsep("acme").root or os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return os.path.abspath(os.path.join(above, application.settings.acme_directory))


def candidates(application: Application) -> list[Domain]:
    """The domains whose certificates come from a CA."""
    return [domain for domain in application.site.domains if domain.acme]


class Archive:
    """One ``acme_directory``."""

    def __init__(self, application: Application) -> None:
        self.path = directory(application)
        self._settings = application.settings
        self._apart = keys_apart(application.site)

    def examine(self, domains: Iterable[Domain]) -> None:
        """For the rehearsal of a reload: could ``open`` succeed? Changes nothing. StartError."""
        self._private()
        for domain in domains:
            if os.path.exists(self._file(domain, "key.pem")):
                self.load(domain)

    def open(self, domains: Iterable[Domain], user: User | None) -> int:
        """Give every domain its files and its context; a descriptor of the acme process's directory. StartError."""
        try:
            os.makedirs(self.path, 0o700, exist_ok=True)
            self._private()
            for domain in domains:
                self._provide(domain)
                self.load(domain)
            return self._account(user)
        except OSError as failure:
            where = failure.filename or self.path
            raise StartError(f"acme_directory {self.path}: {where}: {failure.strerror}") from None

    def request(self, domain: Domain) -> str:
        """The certificate signing request (PEM)."""
        with open(self._file(domain, "request.pem"), encoding="ascii") as file:
            return file.read()

    def chain(self, domain: Domain) -> str:
        """What a CA signed (PEM); "" while there is only the placeholder."""
        with open(domain.certfile, encoding="ascii") as file:
            pem = file.read()
        return "" if is_placeholder(domain.certfile) else pem

    def accept(self, domain: Domain, chain: str, now: float) -> None:
        """Put a new chain in place of the old one. ValueError when it is none for the domain's key; OSError."""
        candidate = self._file(domain, "candidate.pem")
        replace_file(candidate, chain.encode())
        try:
            wrong = aside(lambda: fits(candidate, domain.certkey))
            if wrong:
                raise ValueError(wrong)
            if ends_at(candidate) <= now:
                raise ValueError("it has expired already: is this machine's clock right?")
            os.rename(candidate, domain.certfile)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(candidate)

    def _file(self, domain: Domain, name: str) -> str:
        return os.path.join(self._folder(domain), name)

    def _folder(self, domain: Domain) -> str:
        name = domain.name.lower()
        return os.path.join(self.path, f"{name}@" if name == ACCOUNT else name)

    def _private(self) -> None:
        if os.path.isdir(self.path) and os.stat(self.path).st_mode & 0o077:
            raise StartError(f"acme_directory {self.path} is open to others: chmod 700, or another directory")

    def _provide(self, domain: Domain) -> None:
        os.makedirs(self._folder(domain), 0o700, exist_ok=True)
        names = [self._file(domain, name) for name in ("key.pem", "request.pem", "chain.pem")]
        if not all(map(os.path.exists, names)):
            wrong = aside(lambda: write_files(domain.name.lower(), names))
            if wrong:
                raise StartError(f"{domain.place}: {os.path.dirname(names[0])}: {wrong}")

    def load(self, domain: Domain) -> None:
        """Make the domain's context of its files. StartError."""
        domain.certfile, domain.certkey = self._file(domain, "chain.pem"), self._file(domain, "key.pem")
        try:
            domain.context = make_context(domain, self._settings, self._apart)
        except Refused as refused:
            folder = os.path.dirname(domain.certfile)
            raise StartError(f"{domain.place}: {refused}; remove {folder} for a new key and certificate") from None

    def _account(self, user: User | None) -> int:
        path = os.path.join(self.path, ACCOUNT)
        os.makedirs(path, 0o700, exist_ok=True)
        if user is not None and os.stat(path).st_uid != user.uid:
            for name in ("", *os.listdir(path)):
                os.chown(os.path.join(path, name), user.uid, user.gid, follow_symlinks=False)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def fits(chain: str, key: str) -> str:
    """What is wrong with a chain for a key, "" when nothing is; for a process that is thrown away."""
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key)
    except ssl.SSLError as failure:
        return (failure.reason or str(failure)).lower().replace("_", " ")
    return ""


def write_files(name: str, paths: list[str]) -> str:
    """Key, request and placeholder for a domain; a key that is there is kept. For a process that is thrown away."""
    try:
        known = b""
        if os.path.exists(paths[0]):
            with open(paths[0], "rb") as file:
                known = file.read()
        for path, pem in zip(paths, make_files(name, known), strict=True):
            replace_file(path, pem)
    except (OSError, ValueError) as failure:
        return str(failure)
    return ""


def make_files(name: str, known: bytes) -> tuple[bytes, bytes, bytes]:
    """Key, request and placeholder (PEM) for a domain; the key is ``known`` unless that is empty."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key: Any = serialization.load_pem_private_key(known, None) if known else ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=False)
    who = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, PLACEHOLDER)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(who).issuer_name(who).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).add_extension(names, critical=False)
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=PLACEHOLDER_DAYS))
    signed = [builder.sign(key, hashes.SHA256()).public_bytes(pem) for builder in (request, made)]
    return plain, signed[0], signed[1]
