"""SIGUSR1: certificates and keys whose files have changed are read again, and every connection goes on.

The contexts stay and get the new pair: here, for workers that are forked later, and in the workers, which hear of it on
the bus; with a key manager it has the key before they have the certificate. A process that is thrown away tries the
pair first: one that is wrong changes nothing. Where that can't be (an OpenSSL out of reach, see ``keys.openssl``, or
another kind of key), the workers are replaced instead, as by a reload.

The certificates of CAs and lists of the revoked are read by SIGHUP only.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gkore import log
from gkore.conf.certificates import keys_apart, make_contexts, read, take, try_key, try_pair
from gkore.keys import openssl
from gkore.keys.aside import aside
from gkore.protocol.bus import MASTER, Envelope, Kind

if TYPE_CHECKING:
    from gkore.conf.site import Domain, Site
    from gkore.master.fleet import Fleet

AGAIN = "mend that, and send SIGUSR1 again"
Stamp = tuple[tuple[int, ...], ...]


class Renewal:
    """What the files were when they were read last."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._site: Site = fleet.application.site
        self._stamps = {index: stamp(domain) for index, domain in self._domains().items()}
        self._chains: dict[int, bytes] = {}
        for index, domain in self._domains().items():
            with suppress(OSError):
                self._chains[index] = read(domain.certfile)

    def begin(self) -> set[str]:
        """Take up what has changed, and log it; the files of certificates that are served now."""
        news: list[Any] = []
        stamps: dict[int, Stamp] = {}
        for index, domain in self._domains().items():
            now = stamp(domain)
            if now == self._stamps.get(index):
                continue
            found = self._try(domain)
            if found is not None and stamp(domain) != now:
                why = "its files are being written; send SIGUSR1 when that is done"
                log.error(f"domain {domain.name} ({domain.place}) keeps its old certificate: {why}")
            elif found is not None:
                stamps[index] = now
                news.append([index, *found])
        if news and self._spread(news):
            self._stamps.update(stamps)  # not before: what went wrong is tried again at the next signal
            self._chains.update((index, chain.encode("latin-1")) for index, chain, _ in news)
            names = ", ".join(self._site.domains[entry[0]].name for entry in news)
            log.notice(f"certificates read again: {names}")
            return {self._site.domains[entry[0]].certfile for entry in news}
        return set()

    def _domains(self) -> dict[int, Domain]:
        """One domain for each context, by its place in the site."""
        found: dict[Any, int] = {}
        for index, domain in enumerate(self._site.domains):
            if domain.context is not None and domain.certfile and domain.certkey:
                found.setdefault(domain.context, index)
        return {index: self._site.domains[index] for index in found.values()}

    def _try(self, domain: Domain) -> tuple[str, str] | None:
        """Chain and key as text, the key "" when it is only for the key manager; None when they are not usable."""
        chain = key = b""
        try:
            chain = read(domain.certfile)
            if keys_apart(self._site):
                wrong = aside(lambda: try_key(domain, chain))
            else:
                key, wrong = read(domain.certkey), aside(lambda: try_pair(domain))
        except OSError as failure:
            wrong = f"{failure.filename}: {failure.strerror}"
        if wrong:
            log.error(f"domain {domain.name} ({domain.place}) keeps its old certificate: {wrong}; {AGAIN}")
            return None
        return chain.decode("latin-1"), key.decode("latin-1")

    def _spread(self, news: list[Any]) -> bool:
        """Whether all processes that need to know do, or will."""
        wrong = self._fleet.keymgr.feed() if keys_apart(self._site) else ""
        if wrong:
            log.error(f"the key manager has not got the new keys, all certificates stay: {wrong}; {AGAIN}")
            return False
        try:
            why = aside(lambda: self._rehearse(news))
        except OSError as failure:
            log.error(f"all certificates stay: no process to try them in: {failure.strerror}; send SIGUSR1 again")
            return False
        if why:
            self._replace(why)
            return True
        take(self._site, news)
        payload = json.dumps(news).encode()
        for child in self._fleet.children.values():
            if child.generation == self._fleet.generation:
                child.line.send(Envelope(Kind.CERTIFICATES, MASTER, child.slot, payload))
        return True

    def _rehearse(self, news: list[Any]) -> str:
        """Why it can't be done in place; in a process that is thrown away, because it may crash."""
        try:
            for index, chain, _ in news:
                pair = self._chains.get(index, b""), chain.encode("latin-1")
                if openssl.kind_of(pair[0]) != openssl.kind_of(pair[1]):
                    return "another kind of key"
            take(self._site, news)
        except (openssl.Unavailable, ValueError) as failure:
            return str(failure)
        return ""

    def _replace(self, why: str) -> None:
        """New contexts, and new workers that have them."""
        log.notice(f"certificates can't be changed in place ({why}): the workers are replaced")
        for domain, wrong in make_contexts(self._site, self._fleet.application.settings):
            log.error(f"domain {domain.name} ({domain.place}): {wrong}; {AGAIN}")
        self._fleet.renew()


def stamp(domain: Domain) -> Stamp:
    """What tells one version of a domain's files from another."""
    found: list[tuple[int, ...]] = []
    for path in (domain.certfile, domain.certkey):
        try:
            status = os.stat(path)
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        except OSError:
            found.append(())
    return tuple(found)
