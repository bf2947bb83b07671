"""Plain settings under Kore's names, each with the place that it came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gkore.conf.diagnostics import nearest
from gkore.conf.directives import SETTING_ROWS
from gkore.conf.row import Row
from gkore.conf.statement import Statement, match
from gkore.conf.words import Line, split

DEFAULT = "default"


class Settings:
    """``settings.workers``: read by attribute, written by ``put`` and ``assign`` until ``freeze``."""

    __slots__ = ("_frozen", "_origins", "_values")

    def __init__(self) -> None:
        self._values: dict[str, Any] = {name: row.initial() for name, row in SETTING_ROWS.items()}
        self._origins: dict[str, str] = {}
        self._frozen = False

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"there is no setting {name}{did_you_mean(name)}") from None

    def __iter__(self) -> Iterator[Row]:
        """The rows of all settings, in the order of THE TABLE."""
        return iter(SETTING_ROWS.values())

    def origin(self, name: str) -> str:
        """Where a value came from: ``default``, ``FILE:LINE``, ``command line`` or ``kore.config``."""
        return self._origins.get(name, DEFAULT)

    def put(self, name: str, value: Any, origin: str) -> None:
        """Set a value that is converted already. RuntimeError after ``freeze``."""
        self._refuse_when_frozen()
        self._values[name] = value
        self._origins[name] = origin

    def take(self, statement: Statement, origin: str) -> None:
        """Set what a line of a conf says; a repeated list grows, a repeated value is replaced, as in Kore."""
        row = statement.row
        if row.merge:
            self.put(row.name, row.merge(self._values[row.name], statement.values), origin)
        else:
            self.put(row.name, next(iter(statement.values.values())), origin)

    def assign(self, name: str, value: object, origin: str) -> None:
        """Set ``name`` from Python: int, str, bool or a list of them, checked as in a conf.

        AttributeError when there is no such setting, ValueError when the value is wrong (Kore ends the process),
        RuntimeError ``configured cannot be changed at runtime`` after ``freeze`` (Kore 4).
        """
        self._refuse_when_frozen()
        row = SETTING_ROWS.get(name)
        if row is None:
            raise AttributeError(f"there is no setting {name}{did_you_mean(name)}")
        if value == "" and row.arguments[0].kind.free:
            self.put(name, "", origin)  # no pidfile, no logfile: a conf can't say that
            return
        statement = match(row, as_line(name, value))
        if statement.mistakes:
            wrong = statement.mistakes[0]
            raise ValueError(f"{name}: {wrong.message}; expected: {wrong.expected}")
        self.take(statement, origin)

    def freeze(self) -> None:
        """Settings are final from now on."""
        self._frozen = True

    def _refuse_when_frozen(self) -> None:
        if self._frozen:
            raise RuntimeError("configured cannot be changed at runtime")


def as_line(name: str, value: object) -> Line:
    """A Python value as the line of a conf that would set it."""
    if isinstance(value, (list, tuple, set, frozenset)):
        text = " ".join(map(str, value))
    elif isinstance(value, (str, int)):
        text = str(value)
    else:
        raise ValueError(f"{name}: a {type(value).__name__} can't be a setting; expected: int, str, bool or a list")
    if "\n" in text or "\0" in text:
        raise ValueError(f"{name}: a setting is one line")
    source = f"{name} {text}"
    return split(source, source, "kore.config", 1)


def did_you_mean(name: str) -> str:
    found = nearest(name, SETTING_ROWS)
    return f', did you mean "{found}"?' if found else ""


def printed(settings: Settings) -> str:
    """Every setting, its value in the conf's notation, and where it came from, as a table."""
    cells = [
        (row.name, ", ".join(row.show(getattr(settings, row.name))), settings.origin(row.name)) for row in settings
    ]
    wide, wider = (max(len(cell[column]) for cell in cells) for column in (0, 1))
    return "\n".join(f"{name:<{wide}}  {value or '-':<{wider}}  {origin}" for name, value, origin in cells) + "\n"
