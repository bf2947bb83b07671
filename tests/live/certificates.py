"""Certificates for tests, made with OpenSSL's own tool in a directory of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path

DATABASE = """
[ca]
default_ca = ours
[ours]
database = index.txt
default_md = sha256
default_crl_days = 30
policy = any
new_certs_dir = .
serial = serial
[any]
commonName = supplied
"""
KINDS = {
    "ec": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
    "rsa": ["-newkey", "rsa:2048"],
    "ed25519": ["-newkey", "ed25519"],
}


AUTHORITY = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
"""Python 3.13 checks strictly (VERIFY_X509_STRICT): RFC 5280, 4.2.1.3, wants the key's usage in a CA's certificate."""


class Authority:
    """A certificate authority with one directory; ``above`` makes it an intermediate one."""

    def __init__(self, directory: Path, name: str, above: Authority | None = None) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.name = name
        self.cert, self.key = directory / f"{name}.pem", directory / f"{name}.key"
        self._make(name, self.cert, self.key, AUTHORITY, above)

    def _run(self, *words: object) -> None:
        subprocess.run(["openssl", *map(str, words)], cwd=self.directory, check=True, capture_output=True)

    def _make(
        self, name: str, cert: Path, key: Path, extensions: tuple[str, ...], above: Authority | None, kind: str = "ec"
    ) -> None:
        signed = ["-CA", above.cert, "-CAkey", above.key] if above else []
        subject = ["-subj", f"/CN={name}"]
        for extension in extensions:
            subject += ["-addext", extension]
        self._run("req", "-x509", *KINDS[kind], "-nodes", "-keyout", key, "-out", cert, "-days", 30, *subject, *signed)

    def issue(self, name: str, file: str = "", kind: str = "ec") -> tuple[Path, Path]:
        """A certificate for a host or a client, and its key."""
        cert, key = self.directory / f"{file or name}.pem", self.directory / f"{file or name}.key"
        self._make(name, cert, key, (f"subjectAltName=DNS:{name}", "basicConstraints=critical,CA:FALSE"), self, kind)
        return cert, key

    def issue_ended(self, name: str) -> tuple[Path, Path]:
        """A certificate that ended with the year 2020."""
        cert, key = self.directory / f"{name}-ended.pem", self.directory / f"{name}-ended.key"
        self._run("req", "-new", *KINDS["ec"], "-nodes", "-keyout", key, "-out", "ended.csr", "-subj", f"/CN={name}")
        dates = ["-startdate", "20200101000000Z", "-enddate", "20201231000000Z"]
        self._run(*self._database(), "-batch", "-rand_serial", *dates, "-in", "ended.csr", "-out", cert, "-notext")
        return cert, key

    def revoke(self, cert: Path) -> Path:
        """Revoke a certificate; the list of the revoked."""
        ca = self._database()
        self._run(*ca, "-revoke", cert)
        self._run(*ca, "-gencrl", "-out", "crl.pem")
        return self.directory / "crl.pem"

    def _database(self) -> list[object]:
        (self.directory / "ca.conf").write_text(DATABASE)
        (self.directory / "index.txt").touch()
        return ["ca", "-config", "ca.conf", "-cert", self.cert, "-keyfile", self.key]
