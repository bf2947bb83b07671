"""What the directives outside of domains do: servers, processes, modules, validators, authentications."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gkore import log
from gkore.conf import declarations
from gkore.conf.diagnostics import Wrong, nearest
from gkore.conf.loading import ImportFailure, load
from gkore.conf.patterns import compile_pattern
from gkore.conf.reading import Reading
from gkore.conf.site import Authentication, Bind, Function, Server, Validator
from gkore.conf.statement import Statement

Effect = Callable[[Reading, Statement], Any]


# -- modules


def python_path(reading: Reading, statement: Statement) -> None:
    """A directory that is not there is no mistake in Kore, and harmless: confs name those of other machines."""
    folder = found_beside(statement, "directory")
    if not os.path.isdir(folder):
        log.notice(f"{statement.place}: python_path: there is no directory {folder}; going on without it")
    elif folder not in sys.path:
        sys.path.append(os.path.abspath(folder))


def python_import(reading: Reading, statement: Statement) -> None:
    """Import now, since what follows may need it; the onload is looked up in this module only (Kore)."""
    try:
        module = load(found_beside(statement, "file"))
    except Wrong as why:
        reading.report(statement.wrong("file", why))
        return
    except ImportFailure as failure:
        reading.unimported = True
        reading.report(imported(statement, failure))
        return
    application = reading.application
    if module not in application.modules:
        application.modules.append(module)
    name = statement["onload"]
    if not name:
        return
    onload = getattr(module, name, None)
    if callable(onload):
        application.onloads.append((module, onload))
    else:
        names = [known for known, value in vars(module).items() if callable(value)]
        message = f"{statement['file']} has no function {name}"
        reading.report(statement.mistake("onload", message, suggestion=nearest(name, names)))


def found_beside(statement: Statement, label: str) -> str:
    """A path relative to the working directory (Kore), or when there is nothing, to the conf that names it."""
    path: str = statement[label]
    beside = os.path.join(os.path.dirname(statement.line.file), path)
    return beside if not os.path.exists(path) and os.path.exists(beside) else path


def imported(statement: Statement, failure: ImportFailure) -> Any:
    """The mistake of a module that doesn't import, at the conf's line, with the user's own traceback."""
    what = f"{type(failure.failure).__name__}: {failure.failure}"
    mistake = statement.mistake("file", f"{statement['file']} does not import: {what}")
    return replace(mistake, detail=failure.traceback())


# -- servers


def server(reading: Reading, statement: Statement) -> Server:
    name = statement["name"]
    taken = reading.site.servers.get(name)
    if taken:
        reading.report(statement.mistake("name", f"server {name} exists already, at {taken.place}", "another name"))
        return Server("")
    return declarations.add_server(reading.site, name, True, statement.place)


def address_of(reading: Reading, statement: Statement, bind: Bind) -> None:
    def use(function: Function) -> None:
        bind.callback = function

    reading.resolve(statement, "callback", use)


def bind_of(reading: Reading, statement: Statement) -> Server:
    """The server of a bind: the block around it or Kore 3's implicit one."""
    if reading.block.kind == "server":
        return reading.block.thing  # type: ignore[no-any-return]
    return declarations.implicit_server(reading.site, statement.place)


def bind(reading: Reading, statement: Statement) -> None:
    where = bind_of(reading, statement)
    address_of(
        reading, statement, declarations.add_bind(where, statement["host"], statement["port"], "", statement.place)
    )


def unix(reading: Reading, statement: Statement) -> None:
    where = bind_of(reading, statement)
    address_of(reading, statement, declarations.add_bind(where, "", "", statement["path"], statement.place))


def tls(reading: Reading, statement: Statement) -> None:
    reading.block.thing.tls = statement["yes|no"]


def proxy_protocol(reading: Reading, statement: Statement) -> None:
    reading.block.thing.proxy_protocol = statement["yes|no"]


# -- processes


def privsep(reading: Reading, statement: Statement) -> Any:
    found = reading.site.privsep(statement["process"])
    found.place = statement.place
    return found


def process_of(reading: Reading, statement: Statement) -> Any:
    """The process that a line speaks of: its block, ``keymgr_...``, or at the top the workers (Kore 3)."""
    prefix = statement.row.name.partition("_")[0]
    if reading.block.kind == "privsep":
        return reading.block.thing
    return reading.site.privsep(prefix if prefix in declarations.PROCESSES else "worker")


def runas(reading: Reading, statement: Statement) -> None:
    process = process_of(reading, statement)
    process.runas, process.runas_place = statement["user"], statement.line.place(statement.word("user"))


def root(reading: Reading, statement: Statement) -> None:
    process = process_of(reading, statement)
    process.root, process.place = statement["directory"], statement.line.place(statement.word("directory"))


def skip(reading: Reading, statement: Statement) -> None:
    reading.block.thing.skip.update(statement["chroot"])


# -- validators and authentications


def validator(reading: Reading, statement: Statement) -> None:
    name, text = statement["name"], statement["expression"]
    taken = reading.site.validators.get(name)
    if taken:
        reading.report(statement.mistake("name", f"validator {name} exists already, at {taken.place}", "another name"))
        return
    made = reading.site.validators[name] = Validator(name, place=statement.place)
    if statement["regex|function"] == "function":
        made.function_name = text

        def use(function: Function) -> None:
            made.function = function

        reading.resolve(statement, "expression", use)
        return
    try:
        made.pattern = compile_pattern(text)
    except Wrong as why:
        reading.report(statement.wrong("expression", why))


def authentication(reading: Reading, statement: Statement) -> Authentication:
    name = statement["name"]
    made = Authentication(name, place=statement.place)
    taken = reading.site.authentications.setdefault(name, made)
    if taken is not made:
        message = f"authentication {name} exists already, at {taken.place}"
        reading.report(statement.mistake("name", message, "another name"))
    reading.at_end(lambda: complete_authentication(reading, statement, made))
    return made


def complete_authentication(reading: Reading, statement: Statement, made: Authentication) -> None:
    """Say at the block's first line what it lacks."""
    if reading.application.is_spoiled(made):
        return
    if made.validator is None:
        message = f"no authentication validator for {made.name}"
        reading.report(statement.mistake("name", message, "authentication_validator NAME in this block"))
    if made.kind != "request" and not made.value:
        message = f"authentication {made.name} does not say which {made.kind} holds the credential"
        reading.report(statement.mistake("name", message, "authentication_value NAME in this block"))


def authentication_type(reading: Reading, statement: Statement) -> None:
    reading.block.thing.kind = statement["cookie|header|request"]


def authentication_value(reading: Reading, statement: Statement) -> None:
    reading.block.thing.value = statement["name"]


def authentication_uri(reading: Reading, statement: Statement) -> None:
    reading.block.thing.uri = statement["uri"]


def authentication_validator(reading: Reading, statement: Statement) -> None:
    made = reading.block.thing
    made.validator = Validator(statement["validator"], place=statement.place)  # until all validators are known

    def look() -> None:
        made.validator = find_validator(reading, statement, "validator") or made.validator

    reading.at_end(look)


def find_validator(reading: Reading, statement: Statement, label: str) -> Validator | None:
    """The validator that an argument names; a mistake when there is none."""
    name = statement[label]
    found = reading.site.validators.get(name)
    if found is None:
        near = nearest(name, reading.site.validators)
        reading.report(statement.mistake(label, f"unknown validator {name}", "a validator of this conf", near))
    return found


EFFECTS: dict[str, Effect] = {
    "python_path": python_path,
    "python_import": python_import,
    "server": server,
    "bind": bind,
    "unix": unix,
    "tls": tls,
    "proxy_protocol": proxy_protocol,
    "privsep": privsep,
    "runas": runas,
    "root": root,
    "skip": skip,
    "keymgr_runas": runas,
    "keymgr_root": root,
    "acme_runas": runas,
    "acme_root": root,
    "validator": validator,
    "authentication": authentication,
    "authentication_type": authentication_type,
    "authentication_value": authentication_value,
    "authentication_validator": authentication_validator,
    "authentication_uri": authentication_uri,
}
