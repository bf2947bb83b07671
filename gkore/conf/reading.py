"""A conf being read: what is open, what is wrong so far, what has to wait until everything is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gkore.conf.application import Application
from gkore.conf.diagnostics import Mistake
from gkore.conf.row import Context
from gkore.conf.site import Authentication, Domain, Function, Privsep, Route, Server
from gkore.conf.statement import Statement
from gkore.conf.words import Line


@dataclass(slots=True)
class Params:
    """A params block of Kore 3: declarations for the routes of one path, of one method."""

    path: str
    methods: int
    query: bool
    domain: Domain


@dataclass(slots=True)
class Block:
    """An open block; ``thing`` is what its directives fill. Kind None: an unknown one, whose lines are passed over."""

    kind: Context | None
    thing: Any
    line: Line | None = None
    """Its first line."""
    strays: list[Mistake] = field(default_factory=list)
    """What was said about directives that can't stand in it."""


DETACHED: dict[Context, Callable[[], Any]] = {
    "server": lambda: Server(""),
    "domain": lambda: Domain(""),
    "route": lambda: Route(""),
    "params": lambda: Params("", 0, False, Domain("")),
    "authentication": lambda: Authentication(""),
    "privsep": lambda: Privsep(""),
}
"""What stands in for a block whose first line is wrong, so that its own lines are still checked."""


class Reading:
    """State that the effects of directives work on."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.site = application.site
        self.mistakes: list[Mistake] = []
        self.blocks: list[Block] = [Block("top", self.site)]
        self.waiting: list[Callable[[], None]] = []
        self.unimported = False
        """A module did not import: functions that are missing may be its own, so they are not mistakes yet."""

    @property
    def block(self) -> Block:
        """The innermost open block."""
        return self.blocks[-1]

    def report(self, mistake: Mistake) -> None:
        self.mistakes.append(mistake)

    def spoil(self) -> None:
        """A line of the innermost block is wrong: what the block lacks may be just that line."""
        self.application.spoiled.append(self.block.thing)

    def enclosing(self, kind: Context) -> Any:
        """What the innermost open block of a kind fills; a stand-in when there is none."""
        for block in reversed(self.blocks):
            if block.kind == kind:
                return block.thing
        return DETACHED[kind]()

    def at_end(self, task: Callable[[], None]) -> None:
        """Run ``task`` when everything is read: names may be used before they are declared."""
        self.waiting.append(task)

    def finish(self) -> None:
        for task in self.waiting:
            task()
        self.waiting.clear()

    def resolve(self, statement: Statement, label: str, use: Callable[[Function], None]) -> None:
        """Look up the function that an argument names, at the end, and hand it to ``use``."""
        name = statement[label]
        if not name:
            return

        def look() -> None:
            try:
                use(self.application.function(name))
            except LookupError:
                if self.unimported:
                    return
                self.report(
                    statement.mistake(
                        label,
                        f"there is no function {name}",
                        "a function of a module that python_import loads",
                        self.application.nearest_function(name),
                    )
                )

        self.at_end(look)
