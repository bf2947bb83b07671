"""What the master and the process that gets certificates say to each other: JSON in envelopes of kind ACME.

    master to process   {"begin": name of the domain -> {"request": PEM, "chain": PEM or ""}, and the settings}
                        {"installed": domain, "chain": PEM}     what was handed over is being served
                        {"refused": domain, "text": why}        it is not: hand it over again later
    process to master   {"certificate": domain, "chain": PEM}
                        {"standing": domain, "due": seconds since 1970, "failures": number, "text": the last failure}

The process can forge no more than what it may have anyway, a certificate for a name that the CA lets it have: keys and
requests are the master's, who checks what it is handed.
"""

from __future__ import annotations

import json
from typing import Any

from gkore.errors import ProtocolError
from gkore.protocol.bus import MASTER, Kind, seal

CHAIN_MAX = 256 * 1024
"""Bytes of a chain in PEM; ten certificates have 20 KiB."""


def say(**fields: Any) -> bytes:
    """One message as the bytes of its envelope."""
    return seal(Kind.ACME, MASTER, MASTER, json.dumps(fields).encode())


def understand(payload: bytes) -> dict[str, Any]:
    """The fields of a message. ProtocolError when it is none."""
    try:
        fields = json.loads(payload)
    except ValueError as failure:
        raise ProtocolError(500, f"message of the acme process: {failure}") from None
    if not isinstance(fields, dict):
        raise ProtocolError(500, "message of the acme process without fields")
    return fields
