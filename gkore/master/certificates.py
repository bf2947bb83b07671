"""Until when the certificates hold that the workers serve, and how their renewal stands."""

from __future__ import annotations

from collections.abc import Container
from contextlib import suppress
from time import gmtime, strftime, time
from typing import TYPE_CHECKING, Any

from gkore import log

if TYPE_CHECKING:
    from gkore.conf.site import Domain, Site


PLACEHOLDER = "gkore placeholder"
"""The name of who signed it: such a certificate is none that a CA gave."""


def ends_at(path: str) -> float:
    """When the first certificate of a file ends, in seconds since 1970. OSError, ValueError."""
    return _date(path, "notAfter")


def begins_at(path: str) -> float:
    """From when on it holds, likewise."""
    return _date(path, "notBefore")


def _date(path: str, field: str) -> float:
    from ssl import cert_time_to_seconds

    return float(cert_time_to_seconds(_read(path)[field]))


def is_placeholder(path: str) -> bool:
    """Whether a certificate is one that gkore made, until a CA gives one. OSError."""
    issuer = _read(path).get("issuer", ())
    return (("organizationName", PLACEHOLDER),) in issuer


def _read(path: str) -> dict[str, Any]:
    """The first certificate of a file; the one function of the standard library that reads one without serving it."""
    from ssl import SSLError, _ssl  # type: ignore[attr-defined]

    try:
        return dict(_ssl._test_decode_cert(path))
    except SSLError as failure:
        raise ValueError(str(failure)) from None


def complain(domain: Domain) -> None:
    """Log it when clients will refuse a certificate that somebody else renews. OSError, ValueError."""
    ends, begins = ends_at(domain.certfile), begins_at(domain.certfile)
    names = [str(value).lower() for _, value in _read(domain.certfile).get("subjectAltName", ())]
    wrong = ""
    if ends < time():
        wrong = f"has ended on {strftime('%Y-%m-%d', gmtime(ends))}"
    elif begins > time():
        wrong = f"holds from {strftime('%Y-%m-%d', gmtime(begins))} on"
    elif not _covers(names, domain.name.lower()):
        wrong = f"is for {', '.join(names[:5]) or 'no name (subjectAltName)'}, not for {domain.name}"
    if wrong:
        what = f"domain {domain.name} ({domain.place}): the certificate {domain.certfile} {wrong}"
        log.error(f"{what}: clients refuse it; put another one there and send SIGUSR1")


def _covers(names: list[str], name: str) -> bool:
    """Whether a certificate's names cover a host (RFC 9525 6.3); of patterns that stays unknown."""
    if not name.replace("-", "").replace(".", "").isalnum():
        return True
    return name in names or f"*.{name.partition('.')[2]}" in names


class Certificates:
    """What is being served, as of the last reading: not what may have come into the files since."""

    def __init__(self) -> None:
        self._ends: dict[str, float | None] = {}
        self._acme: dict[str, dict[str, Any]] = {}

    def note(self, site: Site, files: Container[str] | None = None) -> None:
        """The files, all or these, have been read."""
        if files is None:
            self._ends = {}
        for domain in site.domains:
            if domain.context is not None and (files is None or domain.certfile in files):
                with suppress(OSError, ValueError):
                    place = domain.certfile
                    self._ends[domain.name.lower()] = None if is_placeholder(place) else ends_at(place)
                    if not domain.acme:
                        complain(domain)

    def stand(self, domain: Domain, due: float, failures: int, text: str) -> None:
        """How the next renewal of a domain stands: when, and what went wrong."""
        self._acme[domain.name.lower()] = {"renewal": due, "failures": failures, "failure": text}

    def census(self) -> list[dict[str, Any]]:
        """Each domain with TLS: until when (None: a placeholder), and the next try (None: somebody else renews it)."""
        nothing = {"renewal": None, "failures": 0, "failure": ""}
        return [{"domain": name, "until": until, **self._acme.get(name, nothing)} for name, until in self._ends.items()]
