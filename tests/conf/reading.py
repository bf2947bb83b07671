"""Reading a conf in a test: text in, application and mistakes out."""

from __future__ import annotations

import sys
from pathlib import Path

from gkore import api
from gkore.conf.application import Application, adopt
from gkore.conf.diagnostics import Mistake, in_order
from gkore.conf.inspection import inspect
from gkore.conf.reader import Reader

HANDLERS = """
import kore

def onload(action): return kore.RESULT_OK
def check_token(req, value): return True
def page(req): req.response(200, b"page")
def user(req): req.response(200, b"user")
def connected(connection): pass

class Shop:
    def list(self, req): req.response(200, b"list")

shop = Shop()
"""


def read(text: str | bytes, name: str = "kore.conf") -> tuple[Application, list[Mistake]]:
    """The application that a conf makes, and its mistakes by place."""
    sys.modules["kore"] = api
    application = adopt(Application())
    data = text.encode() if isinstance(text, str) else text
    mistakes = [*Reader(application).read(name, data), *inspect(application)]
    return application, in_order(mistakes, application.files)


def messages(text: str | bytes) -> list[str]:
    """``LINE:COLUMN message`` of every mistake."""
    return [f"{one.place.line}:{one.place.column} {one.message}" for one in read(text)[1]]


def handlers(folder: Path) -> str:
    """The line that imports HANDLERS."""
    file = folder / "handlers.py"
    file.write_text(HANDLERS)
    return f"python_import {file} onload"
