"""What survives a restart: the account's key; of each domain failures, the next try, a chain not yet served.

It is all in one directory of which this process was handed a descriptor: no path leads there after a chroot.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

from gkore.durable import replace_file

TRIES_KEPT = 8


@dataclass(slots=True)
class Record:
    """How far the certificate of one domain has come. Times are seconds since 1970."""

    failures: int = 0
    """In a row."""
    code: str = ""
    """What kind of problem the last failure was (RFC 8555 6.7)."""
    text: str = ""
    """What the CA said, and what to do."""
    due: float = 0.0
    tries: list[float] = field(default_factory=list)
    """When the CA was asked and refused."""
    obtained: str = ""
    """A chain that the master has not taken over yet: offered again before another one is ordered."""


class Memory:
    """The directory."""

    def __init__(self, descriptor: int) -> None:
        self._folder = descriptor

    def account_key(self) -> Any:
        """The account's key (josepy.JWKEC), made at first use. OSError, ValueError when the file can't be read."""
        import josepy
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
            load_pem_private_key,
        )

        try:
            with open(self._open("account-key.pem"), "rb") as file:
                key = load_pem_private_key(file.read(), None)
        except FileNotFoundError:
            key = ec.generate_private_key(ec.SECP256R1())
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            replace_file("account-key.pem", pem, folder=self._folder)
        return josepy.JWKEC(key=key)

    def recall(self, domain: str) -> Record:
        """What is known of a domain; a file that makes no sense is as good as none."""
        try:
            with open(self._open(f"{domain}.json"), encoding="utf-8") as file:
                return Record(**json.load(file))
        except (OSError, ValueError, TypeError):
            return Record()

    def keep(self, domain: str, record: Record) -> None:
        """Write it down. OSError."""
        record.tries = record.tries[-TRIES_KEPT:]
        replace_file(f"{domain}.json", json.dumps(asdict(record)).encode(), folder=self._folder)

    def _open(self, name: str) -> int:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._folder)
