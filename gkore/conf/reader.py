"""Reading a conf: lines and THE TABLE in; site, settings and every mistake of it out, in one pass.

Both dialects side by side: each directive is known in every shape that a Kore gave it. What a name refers to is looked
up when all is read, so that order doesn't matter where Kore insists on one. A mistake never ends the reading; where one
would make others (the lines of a block whose first line is wrong), a stand-in is filled instead.
"""

from __future__ import annotations

import os
from dataclasses import replace

from gkore.conf import effects, route_effects, words
from gkore.conf.application import Application
from gkore.conf.diagnostics import Mistake, nearest
from gkore.conf.directives import ROWS, names_in
from gkore.conf.reading import DETACHED, Block, Reading
from gkore.conf.row import CONTEXTS, Context, Row
from gkore.conf.site import Place
from gkore.conf.statement import Statement, ends_free, match
from gkore.conf.words import Line, Word

NESTING_MAX = 50
EFFECTS = effects.EFFECTS | route_effects.EFFECTS


def read_conf(application: Application, path: str) -> list[Mistake]:
    """Read a conf file and all that it includes into ``application``; the mistakes of its lines, as they were found."""
    reader = Reader(application)
    try:
        data = words.read(path)
    except (OSError, ValueError) as failure:
        return [Mistake(Place(path), f"can't be read: {reason(failure)}", expected="a conf file")]
    return reader.read(path, data)


def reason(failure: OSError | ValueError) -> str:
    return (failure.strerror or str(failure)) if isinstance(failure, OSError) else str(failure)


class Reader:
    """Reads one conf; files that include each other are read in place."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.reading = Reading(application)
        self.open: list[str] = []
        """Real paths of the files being read, the including ones first: to see cycles."""

    def read(self, path: str, data: bytes) -> list[Mistake]:
        self.file(path, data)
        self.unclosed(1)
        self.reading.finish()
        return self.reading.mistakes

    def file(self, path: str, data: bytes) -> None:
        self.application.sources[path] = [line.decode("utf-8", "replace").rstrip("\r") for line in data.split(b"\n")]
        self.application.files.append(path)
        self.open.append(os.path.realpath(path))
        for line in words.lines(data, path):
            if isinstance(line, Mistake):
                self.reading.report(line)
            else:
                self.line(line)
        self.open.pop()

    def line(self, line: Line) -> None:
        line, rest = self.parted(self.unglued(line))
        if line.closes():
            self.close(line)
        elif self.reading.block.kind is None:
            if ends_open(line):
                self.reading.blocks.append(Block(None, None, line))
        elif rows := ROWS.get(line.name.text):
            self.directive(line, rows)
        else:
            self.unknown(line)
        if rest:
            self.line(rest)

    def parted(self, line: Line) -> tuple[Line, Line | None]:
        """``server a { bind 127.0.0.1 80 }`` is read as the three lines that were meant, with a mistake at each."""
        rows = ROWS.get(line.name.text, [])
        found = line.words()
        if not found or line.name.text == "}" or any(ends_free(row) for row in rows):
            return line, None
        behind = next((at for at, word in enumerate(found) if word.text == "{"), len(found)) + 1
        if behind < len(found) and any(row.opens for row in rows):
            self.reading.report(line.mistake(found[behind], "a line ends behind {", "what follows on the next line"))
        elif found[-1].text == "}":
            behind = len(found) - 1
            self.reading.report(line.mistake(found[-1], "} must stand on a line of its own", "} on the next line"))
        else:
            return line, None
        return line.split(found[behind])

    def unglued(self, line: Line) -> Line:
        """``server{`` is read as ``server {``; Kore passes over it without a word."""
        name = line.name.text.removesuffix("{")
        if name == line.name.text or not any(row.opens for row in ROWS.get(name, ())):
            return line
        rows = ROWS[name]
        self.reading.report(line.mistake(line.name, "there must be a blank before {", rows[0].usage))
        brace = Word.at(("{ " + line.value.text).rstrip(), line.name.column + len(name))
        return replace(line, name=Word.at(name, line.name.column), value=brace)

    def close(self, line: Line) -> None:
        if len(self.reading.blocks) > 1:
            self.reading.blocks.pop()
        else:
            mistake = line.mistake(line.name, "there is no open block to close")
            self.reading.report(replace(mistake, lenient=True))

    def unknown(self, line: Line) -> None:
        """A name that THE TABLE doesn't have: a mistake unless ``config_strict no``; a block of it is passed over."""
        self.reading.spoil()
        name = line.name.text
        kind = self.reading.block.kind or "top"
        near = nearest(name, names_in(kind)) or nearest(name, ROWS)
        message = f'"{name}" is not a directive'
        mistake = line.mistake(line.name, message, f"a directive that may stand {CONTEXTS[kind]}", near)
        self.reading.report(replace(mistake, lenient=True))
        if ends_open(line):
            self.reading.blocks.append(Block(None, None, line))

    def directive(self, line: Line, rows: list[Row]) -> None:
        row, fits = self.placed(line, rows)
        statement = match(row, line)
        self.reading.mistakes += statement.mistakes
        hard = any(not mistake.lenient for mistake in statement.mistakes)
        if hard or not fits:
            self.reading.spoil()
        if row.refusal:
            self.reading.report(line.mistake(line.name, f"gkore can't do {row.name}", row.refusal))
        elif row.opens and (statement.opened or not row.braces):
            self.enter(statement, fits)
        elif fits and not hard:
            self.act(statement)

    def placed(self, line: Line, rows: list[Row]) -> tuple[Row, bool]:
        """The row for the place where the line stands, and whether it may take effect there."""
        kind = self.reading.block.kind or "top"
        for row in rows:
            if kind in row.contexts:
                return row, True
        row = rows[0]
        if row.opens and row.opens != "authentication" and self.depth_of(row):
            self.unclosed(self.depth_of(row), line)
            return row, True
        where = " or ".join(CONTEXTS[context] for context in row.contexts) or f"in Python, as kore.config.{row.name}"
        message = f"{line.name.text} can't stand {CONTEXTS[kind]}"
        passes = "top" in row.contexts  # Kore doesn't look where these stand
        mistake = replace(line.mistake(line.name, message, f"{line.name.text} {where}"), lenient=passes)
        self.reading.report(mistake)
        if passes:
            self.reading.block.strays.append(mistake)
        return row, passes

    def depth_of(self, row: Row) -> int:
        """How many blocks may stay open for this row to fit; 0 when it fits nowhere."""
        for depth in range(len(self.reading.blocks), 0, -1):
            if self.reading.blocks[depth - 1].kind in row.contexts:
                return depth
        return 0

    def unclosed(self, depth: int, before: Line | None = None) -> None:
        """Close the blocks that should have been: a mistake at the first line of each."""
        while len(self.reading.blocks) > depth:
            block = self.reading.blocks.pop()
            line = block.line
            if line is None:
                continue
            for stray in block.strays:  # it was never meant to stand in this block
                self.reading.mistakes.remove(stray)
            until = f"before {before.file}:{before.number}" if before else "before the end of the file"
            mistake = line.mistake(
                line.name, f"this {line.name.text} block is never closed", f"}} on a line of its own {until}"
            )
            self.reading.report(replace(mistake, lenient=before is None))

    def enter(self, statement: Statement, fits: bool) -> None:
        """Open a block; one whose first line is wrong gets a stand-in to fill."""
        row = statement.row
        complete = all(argument.optional or argument.label in statement.values for argument in row.arguments)
        kind: Context = row.opens or "top"
        thing = EFFECTS[row.name](self.reading, statement) if fits and complete else DETACHED[kind]()
        if statement.opened:
            self.reading.blocks.append(Block(kind, thing, statement.line))

    def act(self, statement: Statement) -> None:
        row, block = statement.row, self.reading.block
        if row.name == "include":
            self.include(statement)
        elif row.option or (row.setting and block.kind != "top" and block.kind in row.contexts):
            block.thing.options[row.name] = next(iter(statement.values.values()))
        elif row.setting:
            self.application.settings.take(statement, f"{statement.line.file}:{statement.line.number}")
        else:
            EFFECTS[row.name](self.reading, statement)

    def include(self, statement: Statement) -> None:
        """Read another file in place: relative to the working directory (Kore), or else to the including file."""
        path = effects.found_beside(statement, "path")
        if os.path.realpath(path) in self.open:
            message = f"{path} is being read already: the files include each other"
            self.reading.report(statement.mistake("path", message))
        elif len(self.open) >= NESTING_MAX:
            self.reading.report(statement.mistake("path", f"includes nest deeper than {NESTING_MAX} files"))
        else:
            try:
                self.file(path, words.read(path))
            except (OSError, ValueError) as failure:
                message = f"failed to open include {path}: {reason(failure)}"
                self.reading.report(statement.mistake("path", message, "a conf file"))


def ends_open(line: Line) -> bool:
    """The line opens a block, whatever its name."""
    found = line.words()
    return (found[-1] if found else line.name).text.endswith("{")
