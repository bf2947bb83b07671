"""Accept-Encoding (RFC 9110 section 12.5.3): which of the codings at hand a client likes best."""

from __future__ import annotations

import re
from collections.abc import Sequence

IDENTITY = "identity"
# RFC 9110 section 8.4.1.3: recipients treat x-gzip as gzip.
_ALIASES = {"x-gzip": "gzip", "x-compress": "compress"}
_item = re.compile(
    r"([!#$%&'*+.^_`|~\w-]+)[ \t]*(?:;[ \t]*[qQ]=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)[ \t]*)?", re.ASCII
).fullmatch
# Clients name half a dozen; a header of thousands is not worth reading to its end.
_ITEMS_MAX = 32


def choose_coding(header: str | None, offered: Sequence[str]) -> str:
    """The coding of ``offered`` (best first, lower case) to answer with, ``identity`` when none is wanted.

    The client's weight decides, the order of ``offered`` breaks ties. No coding at all stays possible even where the
    client forbids identity: section 12.5.3 prefers an answer to a 406.
    """
    if not header:
        return IDENTITY
    weights = _weights(header)
    rest = weights.get("*", 0.0)
    best, best_weight = IDENTITY, weights.get(IDENTITY, 0.0)
    for coding in reversed(offered):
        weight = weights.get(coding, rest)
        if weight and weight >= best_weight:
            best, best_weight = coding, weight
    return best


def _weights(header: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for text in header.split(",", _ITEMS_MAX)[:_ITEMS_MAX]:
        found = _item(text.strip(" \t"))
        if found is not None:
            name = found[1].lower()
            weights[_ALIASES.get(name, name)] = 1.0 if found[2] is None else float(found[2])
    return weights
