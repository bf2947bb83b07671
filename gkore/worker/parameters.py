"""``req.populate_get`` and its kin: only declared parameters that pass their validators survive, as in Kore.

A parameter is kept when the route declares its name for this method and this source (query string or body) and its
validator accepts the value. True and 1 are acceptance; False, 0, None, anything else and an exception are not: Kore's
worker would die of the last.
"""

from __future__ import annotations

from collections.abc import Iterable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from gkore.conf.site import Param, Validator
from gkore.worker import bridge, failures

if TYPE_CHECKING:
    from gkore.worker.request import Request


def accept(declared: list[Param], request: Request, query: bool, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The pairs that ``declared`` lets through, the first value of a name; ``query`` tells the source."""
    method = request.method
    rules = {
        param.name: param.validator for param in reversed(declared) if param.query is query and param.methods & method
    }
    kept: dict[str, str] = {}
    for name, value in pairs:
        rule = rules.get(name)
        if rule is not None and name not in kept and passes(rule, request, value):
            kept[name] = value
    return kept


def passes(validator: Validator, request: Request, value: Any) -> bool:
    """Whether ``validator`` accepts ``value``; what it raises is reported and counts as no."""
    if validator.pattern is not None:
        return validator.pattern.search(value) is not None
    if validator.function is None:
        return False
    try:
        verdict = validator.function(request, value)
        if isawaitable(verdict):
            verdict = bridge.run(verdict)  # type: ignore[arg-type]
    except Exception as failure:
        failures.report(f"validator {validator.name}", failure)
        return False
    return verdict is True or verdict == 1
