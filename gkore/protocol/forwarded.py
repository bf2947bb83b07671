"""Who the client is behind proxies: Forwarded (RFC 7239), X-Forwarded-For, -Proto and -Host, X-Request-Id.

Whoever connects can write any of these, so they are read from the right end, where our own proxies append:
- a peer that isn't trusted is the client, whatever it says;
- from the right, addresses of trusted proxies are passed over; the first other one is the client;
- a hop that isn't an address (``unknown``, ``_hidden``, nonsense) ends the walk: the client is the proxy that said so;
- when Forwarded and X-Forwarded-For are both there they must name the same client, else neither is believed: a proxy
  sets one of them and hands the other on as the client wrote it.
Kore looks at none of this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

# More hops than any real chain has; what stands left of them is not looked at.
HOPS_MAX = 32

_TOKEN = r"[!#$%&'*+.^_`|~\w-]+"
_pairs = re.compile(rf'[ \t]*({_TOKEN})=(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")[ \t]*(?:;|$)', re.ASCII)
_bracketed = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\w{1,6})?", re.ASCII).fullmatch
_with_port = re.compile(r"([\d.]+)(?::\w{1,6})?", re.ASCII).fullmatch
_is_host = re.compile(r"(?:[\w.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?", re.ASCII).fullmatch
_is_request_id = re.compile(r"[\w.~+/=:@-]{1,128}", re.ASCII).fullmatch


class Client(NamedTuple):
    """The address, and the scheme and host that it asked for where a trusted proxy tells them, else empty."""

    address: str
    scheme: str = ""
    host: str = ""


class Proxies:
    """The networks whose word counts (``trusted_proxies``)."""

    __slots__ = ("_networks", "_unix")

    def __init__(self, networks: Iterable[str]) -> None:
        """Take addresses, CIDR networks and ``unix`` for peers on a UNIX socket. ValueError for anything else."""
        names = list(networks)
        self._unix = "unix" in names
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(name) for name in names if name != "unix"]

    def trust(self, address: str) -> bool:
        """Whether ``address`` (empty: a UNIX socket) is one of ours."""
        if not address:
            return self._unix
        parsed = _address(address)
        return parsed is not None and any(parsed in network for network in self._networks)


def find_client(
    peer: str, proxies: Proxies, forwarded: Sequence[str], x_for: Sequence[str], x_others: tuple[str, str] = ("", "")
) -> Client:
    """The client of a connection from ``peer`` (empty: a UNIX socket); never raises.

    ``forwarded`` and ``x_for`` are all values of Forwarded and X-Forwarded-For in order of arrival, ``x_others`` the
    values of X-Forwarded-Proto and X-Forwarded-Host.
    """
    if not proxies.trust(peer):
        return Client(peer)
    by_standard = _walk(peer, proxies, [_element(text) for text in _hops(forwarded)]) if forwarded else None
    if not x_for:
        return by_standard or Client(peer, _scheme(_last(x_others[0])), _host(_last(x_others[1])))
    hops = _hops(x_for)
    schemes, hosts = _aligned(x_others[0], len(hops)), _aligned(x_others[1], len(hops))
    named = [
        {"for": hop, "proto": scheme, "host": host} for hop, scheme, host in zip(hops, schemes, hosts, strict=True)
    ]
    by_custom = _walk(peer, proxies, named)
    if by_standard is None:
        return by_custom
    return by_standard if by_standard.address == by_custom.address else Client(peer)


def accept_request_id(value: str) -> str:
    """``value`` when it may go into logs and headers as it is, else empty."""
    return value if _is_request_id(value) else ""


def _walk(peer: str, proxies: Proxies, hops: list[dict[str, str]]) -> Client:
    client = Client(peer)
    for hop in reversed(hops):
        address = _address(hop.get("for", ""))
        if address is None:
            break
        client = Client(str(address), _scheme(hop.get("proto", "")), _host(hop.get("host", "")))
        if not proxies.trust(client.address):
            break
    return client


def _hops(values: Sequence[str]) -> list[str]:
    # Cut at every comma, quoted or not: an open quote that the client wrote must not swallow what our proxy appended.
    return [hop.strip(" \t") for hop in ",".join(values).rsplit(",", HOPS_MAX)[-HOPS_MAX:]]


def _element(text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    end = 0
    while end < len(text):
        found = _pairs.match(text, end)
        if found is None or found[1].lower() in pairs:
            return {}
        pairs[found[1].lower()] = found[2] or re.sub(r"\\(.)", r"\1", found[3] or "")
        end = found.end()
    return pairs


def _aligned(value: str, hops: int) -> list[str]:
    """One value a hop: a proxy either appends to the list as it does to X-Forwarded-For, or replaces the lot."""
    values = _hops([value])
    return values if len(values) == hops else [_last(value)] * hops


def _last(value: str) -> str:
    return value.rpartition(",")[2].strip(" \t")


def _scheme(value: str) -> str:
    lower = value.lower()
    return lower if lower in ("http", "https") else ""


def _host(value: str) -> str:
    return value if _is_host(value) else ""


def _address(text: str) -> IPv4Address | IPv6Address | None:
    found = _bracketed(text) or _with_port(text)
    try:
        address = ip_address(found[1] if found else text if "%" not in text else "")
    except ValueError:
        return None
    return (address.version == 6 and address.ipv4_mapped) or address
