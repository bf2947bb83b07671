"""Importing user code: ``python_import``, script files and packages.

A file is imported by its path, under its base name, so that a ``test.py`` of the user's is not lost behind the standard
library's ``test``. It is in Kore, which appends the directory to sys.path and imports the name.
"""

from __future__ import annotations

import importlib
import importlib.util
import linecache
import os
import sys
from inspect import iscoroutinefunction
from traceback import TracebackException
from types import ModuleType
from typing import Any

from gkore.conf import bytecode
from gkore.conf.diagnostics import Mistake, Wrong
from gkore.conf.site import Place

OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class ImportFailure(Exception):
    """User code that doesn't import: what happened, where in the user's files, and the traceback of these."""

    def __init__(self, path: str, failure: BaseException) -> None:
        super().__init__(f"{path}: {type(failure).__name__}: {failure}")
        self.path, self.failure = path, failure

    def mistake(self) -> Mistake:
        """The failure as a mistake at the user's line that raised it."""
        file, line, source = origin(self.failure) or (self.path, 1, "")
        column = len(source) - len(source.lstrip()) + 1
        what = type(self.failure).__name__
        return Mistake(Place(file, line, column), f"{what}: {self.failure}", source, len(source.strip()) or 1)

    def traceback(self) -> str:
        """The traceback, without the frames of gkore and of Python's import machinery."""
        return user_traceback(self.failure)


def load(path: str, first: bool = False) -> ModuleType:
    """Import a file or package. ImportFailure when its code raises, Wrong when it is no Python.

    Its directory is put on sys.path: behind all others as in Kore, or ``first``, as Python does for a script.
    """
    bytecode.distrust_fresh()
    absolute = os.path.realpath(path)
    file = os.path.join(absolute, "__init__.py") if os.path.isdir(absolute) else absolute
    if not os.path.isfile(file):
        what = "is not a package: it has no __init__.py" if os.path.isdir(absolute) else "does not exist"
        raise Wrong(f"{path} {what}", expected="a Python file or a package")
    folder = os.path.dirname(absolute)
    if folder not in sys.path:
        sys.path.insert(0 if first else len(sys.path), folder)
    name = os.path.splitext(os.path.basename(absolute))[0]
    known = sys.modules.get(name)
    if known is not None and same_file(known, file):
        return known
    if known is not None or name in sys.stdlib_module_names or not name.isidentifier():
        name = f"application_{name}"
    return execute(name, file, path)


def find_object(name: str) -> Any:
    """The object that ``MODULE:OBJECT`` names. ImportFailure when the module raises, LookupError when it is absent."""
    bytecode.distrust_fresh()
    module_name, _, path = name.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as failure:
        if failure.name is not None and (module_name + ".").startswith(failure.name + "."):
            raise LookupError(f"there is no module {failure.name}") from None
        raise ImportFailure(module_name, failure) from None
    except KeyboardInterrupt:
        raise
    except BaseException as failure:
        raise ImportFailure(module_name, failure) from None
    file = getattr(found, "__file__", None)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        if module_name in sys.stdlib_module_names:
            raise LookupError(f"{module_name} is Python's own module, {file}: give yours another name")
        raise LookupError(f"{module_name} ({file}) has no {path} that can be called")
    if iscoroutinefunction(found) or iscoroutinefunction(found.__call__):
        raise LookupError(f"{name} is an ASGI application (async); gkore hosts WSGI ones and its own handlers")
    return found


def same_file(module: ModuleType, file: str) -> bool:
    return os.path.realpath(getattr(module, "__file__", None) or "") == file


def execute(name: str, file: str, path: str) -> ModuleType:
    package = [os.path.dirname(file)] if os.path.isdir(path) else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=package)
    if spec is None or spec.loader is None:
        raise Wrong(f"{path} is not Python", expected="a file whose name ends in .py, or a package")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as failure:
        del sys.modules[name]
        raise ImportFailure(path, failure) from None
    return module


def is_users(file: str) -> bool:
    return not file.startswith((OURS, "<frozen"))


def user_traceback(failure: BaseException) -> str:
    """A traceback of the user's frames only; causes are kept."""
    report = TracebackException.from_exception(failure)
    one: TracebackException | None = report
    while one is not None:
        one.stack[:] = [frame for frame in one.stack if is_users(frame.filename)]
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return "".join(report.format()).rstrip()


def origin(failure: BaseException) -> tuple[str, int, str] | None:
    """File, line and source of the innermost line of the user's that raised, or of a SyntaxError."""
    if isinstance(failure, SyntaxError) and failure.filename and failure.lineno:
        return failure.filename, failure.lineno, (failure.text or "").rstrip("\n")
    stack = [frame for frame in TracebackException.from_exception(failure).stack if is_users(frame.filename)]
    if not stack or not stack[-1].lineno:
        return None
    file, line = stack[-1].filename, stack[-1].lineno
    return file, line, source_line(file, line)


def source_line(file: str, line: int) -> str:
    """A line of a Python file as it stands there, or ""."""
    return linecache.getline(file, line).rstrip("\n")


def caller() -> Place:
    """The place in the user's code that called us: for messages about what a script declares."""
    frame = sys._getframe(1)
    while frame.f_back is not None and not is_users(frame.f_code.co_filename):
        frame = frame.f_back
    file, line = frame.f_code.co_filename, frame.f_lineno
    source = source_line(file, line)
    return Place(file, line, len(source) - len(source.lstrip()) + 1)
