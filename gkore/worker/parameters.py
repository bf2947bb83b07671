"""``req.populate_get`` and its kin: only declared parameters that pass their validators survive, as in Kore.

A parameter is kept when the route declares its name for this method and this source (query string or body) and its
validator accepts the value. True and 1 are acceptance; False, 0, None, anything else and an exception are not: Kore's
worker would die of the last.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Literal

from gkore.conf.site import Param, Validator
from gkore.worker import bridge, failures

if TYPE_CHECKING:
    from gkore.worker.request import Request

RESULT_OK, RESULT_RETRY = 1, 2


class Later(Enum):
    """A validator's third answer."""

    RETRY = "retry"


RETRY: Literal[Later.RETRY] = Later.RETRY

Rules = dict[str, Validator]


def rules_of(declared: list[Param], method: int, query: bool) -> Rules:
    """Name to validator, for one method and one source; the first declaration of a name counts (Kore)."""
    mine = [param for param in declared if param.query is query and param.methods & method]
    return {param.name: param.validator for param in reversed(mine)}


def accept(rules: Rules, request: Request, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The pairs that ``rules`` let through, the first value of a name."""
    kept: dict[str, str] = {}
    for name, value in pairs:
        rule = rules.get(name)
        if rule is None or name in kept:
            continue
        pattern = rule.pattern
        if pattern.search(value) is not None if pattern is not None else verdict(rule, request, value) is True:
            kept[name] = value
    return kept


def verdict(validator: Validator | None, request: Request, value: Any, alone: bool = False) -> bool | Later:
    """What ``validator`` says to ``value``: True, False or RETRY; what it raises is reported and counts as no.

    ``alone``: the function takes the request and nothing else.
    """
    if validator is None:
        return False
    if validator.pattern is not None:
        return isinstance(value, str) and validator.pattern.search(value) is not None
    if validator.function is None:
        return False
    try:
        said = validator.function(request) if alone else validator.function(request, value)
        if isawaitable(said):
            said = bridge.run(said)  # type: ignore[arg-type]
    except Exception as failure:
        failures.report(f"validator {validator.name}", failure)
        return False
    if said is True or said == RESULT_OK:
        return True
    return RETRY if said.__class__ is int and said == RESULT_RETRY else False
