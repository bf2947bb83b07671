"""What one row of THE TABLE says, and how a row is written.

A row's arguments are written as its usage: ``path [callback]``. Each word is a label, ``[x]`` may be left out, ``x...``
may stand several times, and ``x:kind`` says which kind of KINDS it is when that is not its label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gkore.conf import kinds
from gkore.conf.kinds import Kind

Context = Literal["top", "server", "domain", "route", "params", "authentication", "privsep"]
CONTEXTS: dict[Context, str] = {
    "top": "at the top of a conf",
    "server": "in a server block",
    "domain": "in a domain block",
    "route": "in a route block",
    "params": "in a params block",
    "authentication": "in an authentication block",
    "privsep": "in a privsep block",
}
KINDS: dict[str, Kind] = {
    "authentication": kinds.NAME,
    "ca": kinds.FILE_WORD,
    "callback": kinds.FUNCTION_NAME,
    "chroot": kinds.choice("chroot"),
    "cookie|header|request": kinds.choice("cookie", "header", "request"),
    "crl": kinds.FILE_WORD,
    "declared": kinds.DECLARED_PATH,
    "depth": kinds.number(0, 2**31 - 1),
    "directory": kinds.PATH_WORD,
    "exact": kinds.EXACT_PATH,
    "expression": kinds.REST,
    "failure": kinds.number(400, 600),
    "file": kinds.PATH_WORD,
    "folder": kinds.FOLDER_URL,
    "function": kinds.FUNCTION_NAME,
    "handler": kinds.FUNCTION_NAME,
    "host": kinds.HOST,
    "log": kinds.LOG_PATH,
    "method": kinds.METHOD,
    "name": kinds.NAME,
    "onload": kinds.FUNCTION_NAME,
    "pem": kinds.FILE,
    "place": kinds.PATH,
    "plain": kinds.PLAIN_REGEX,
    "port": kinds.PORT,
    "process": kinds.choice("worker", "keymgr", "acme"),
    "regex": kinds.REGEX,
    "regex|function": kinds.choice("regex", "function"),
    "route": kinds.ROUTE_PATH,
    "sourced": kinds.SOURCED_METHOD,
    "status": kinds.number(300, 399),
    "target": kinds.TARGET,
    "uri": kinds.WORD,
    "user": kinds.USER,
    "word": kinds.WORD,
    "wsgi": kinds.WSGI_NAME,
    "yes|no": kinds.YES_NO,
}


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument: its label in usage lines and messages, what it may be, how often it may stand there."""

    label: str
    kind: Kind
    optional: bool = False
    many: bool = False

    def __str__(self) -> str:
        text = self.label + ("..." if self.many else "")
        return f"[{text}]" if self.optional else text


Merge = Callable[[Any, Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A directive. A setting has a default and a value in Settings; the others build the site."""

    name: str
    contexts: tuple[Context, ...]
    arguments: tuple[Argument, ...]
    doc: str
    since: str = "3.2"
    """The first Kore that has it, or "gkore"."""
    aliases: tuple[str, ...] = ()
    opens: Context | None = None
    braces: bool = True
    """False where a block's ``{`` may be left out: the one-line route of Kore 4.0."""
    setting: bool = False
    default: Any = None
    merge: Merge | None = None
    """How a repeated setting grows: old value and new arguments in, new value out."""
    option: bool = False
    """Kept in the ``options`` of the block in which it stands."""
    refusal: str = ""
    """What to do instead, for what gkore can't have."""

    @property
    def usage(self) -> str:
        words = [self.name, *map(str, self.arguments)]
        if self.opens:
            words.append("{" if self.braces else "[{]")
        return " ".join(words)

    def initial(self) -> Any:
        """The default; a function's result when it depends on the machine or is a container."""
        return self.default() if callable(self.default) else self.default

    def show(self, value: Any) -> list[str]:
        """A setting's value in the conf's notation, one text for each line that it takes there."""
        kind = self.arguments[-1].kind
        if isinstance(value, dict):
            return [f"{value[key]} {key}" for key in value]
        if isinstance(value, list):
            return [" ".join(map(kind.show, value))] if value else []
        return [] if value == "" else [kind.show(value)]


def argument(usage: str) -> Argument:
    """One word of a usage as an Argument."""
    optional = usage.startswith("[") and usage.endswith("]")
    text = usage[1:-1] if optional else usage
    label, _, kind = text.removesuffix("...").rpartition(":")
    return Argument(label or kind, KINDS[kind], optional, text.endswith("..."))


def row(name: str, contexts: str, usage: str, doc: str, **more: Any) -> Row:
    """A row that builds the site; ``contexts`` and ``usage`` are words."""
    where: Any = tuple(contexts.split())
    return Row(name, where, tuple(map(argument, usage.split())), doc, **more)


def setting(name: str, kind: Kind, default: Any, doc: str, *, also: str = "", **more: Any) -> Row:
    """A row with one value; in the blocks of ``also`` it is an option of theirs."""
    contexts: Any = ("top", *also.split())
    return Row(name, contexts, (Argument(kind.label, kind),), doc, setting=True, default=default, **more)


def listing(name: str, kind: Kind, label: str, doc: str, **more: Any) -> Row:
    """A row whose value is a list; every line adds to it."""

    def merge(old: Any, values: Mapping[str, Any]) -> Any:
        return [*old, *values[label]]

    arguments = (Argument(label, kind, many=True),)
    return Row(name, ("top",), arguments, doc, setting=True, default=list, merge=merge, **more)


def option(name: str, contexts: str, kind: Kind, doc: str, **more: Any) -> Row:
    """A row kept in the ``options`` of a route or domain."""
    where: Any = tuple(contexts.split())
    return Row(name, where, (Argument(kind.label, kind),), doc, "gkore", option=True, **more)
