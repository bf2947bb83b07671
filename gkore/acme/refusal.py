"""Why there is no certificate: the CA's own words, and what to do about it."""

from __future__ import annotations

HINTS = {
    "unreachable": "can this machine reach it? (DNS, firewall, acme_provider, acme_ca)",
    "connection": "the CA must reach {name} on port 443 and find this server there: look at DNS and firewall",
    "dns": "look at the DNS records of {name}",
    "tls": "something else than this server answers for {name} on port 443, or ends TLS before it",
    "unauthorized": "something else than this server answers for {name} on port 443, or ends TLS before it",
    "caa": "the CAA record of {name} does not name this CA",
    "rejectedIdentifier": "the CA gives no certificate for this name",
    "rateLimited": "wait; to try things out use the CA's staging directory as acme_provider",
    "externalAccountRequired": "this CA wants accounts that were made on its site, which gkore can't use",
    "userActionRequired": "read what the CA asks for, at the address it names",
    "invalidContact": "look at acme_email",
    "unsupportedContact": "look at acme_email",
    "unsupported": "another CA (acme_provider), or certfile and certkey",
    "timeout": "the CA may be busy; is port 443 of {name} reachable?",
}


class Refusal(Exception):
    """``code`` is the problem's (RFC 8555 6.7) or one of ours: unreachable, unsupported, timeout."""

    def __init__(self, code: str, detail: str, name: str) -> None:
        hint = HINTS.get(code, "").format(name=name)
        said = f"{code}: {detail}" if code else detail
        super().__init__(f"{said}{f' ({hint})' if hint else ''}")
        self.code = code

    @property
    def counts(self) -> bool:
        """Whether the CA may have counted the try."""
        return self.code != "unreachable"
