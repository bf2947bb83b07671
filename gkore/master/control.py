"""The control socket: how ``gkore reload``, ``stop``, ``status`` and ``dump`` find a running master.

A UNIX socket of mode 0600 beside the pid file: who may connect may also signal the master. A client sends one line,
one word, and gets one line of JSON: ``{"status": 0, ...}``. The answer to ``reload`` comes when that has succeeded or
failed, and its connection is handed on to the master's next program; that of ``stop`` is closed by the server's end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import Any

from gkore import log
from gkore.errors import StartError
from gkore.master.door import NEVER, Caller, Door, Policy

POLICY = Policy(callers=16, asked=256, newest=False)


def beside(pidfile: str) -> str:
    """The control socket's path where the conf names none: beside the pid file."""
    return f"{os.path.splitext(pidfile)[0]}.control" if pidfile else ""


class Client:
    """Who has given a command."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def wait(self) -> None:
        """Be answered by ``Control.answer``, or by the end of the server."""
        self._caller.wait()

    def answer(self, **fields: Any) -> None:
        """Say it and hang up."""
        self._caller.answer(json.dumps(fields).encode() + b"\n")


class Control:
    """The socket and its commands: each is called with the client and answers it."""

    def __init__(self) -> None:
        self.path = ""
        self.commands: dict[str, Callable[[Client], object]] = {}
        self.door = Door(self._heard, POLICY)

    def open(self, path: str, must: bool) -> None:
        """Listen at ``path``; when that can't be it is said, and StartError if the conf asks for it (``must``)."""
        if not path or (self.door.sock is not None and path == self.path):
            return
        self.close()
        try:
            self.door.open(_listening(path))
            self.path = os.path.abspath(path)
        except OSError as failure:
            text = f"control socket {path}: {failure.strerror or failure}"
            if must:
                raise StartError(text) from None
            log.notice(f"{text}; going on without it")

    def _heard(self, caller: Caller) -> None:
        if not caller.said.endswith(b"\n"):
            return
        caller.deadline = NEVER
        command = caller.said.decode("utf-8", "replace").strip()
        action = self.commands.get(command)
        if action is None:
            text = f"unknown command {command}, expected {', '.join(sorted(self.commands))}"
            Client(caller).answer(status=2, text=text)
        else:
            action(Client(caller))

    def answer(self, status: int, text: str) -> None:
        """Tell everybody who waits how the reload went."""
        for caller in [caller for caller in self.door.callers if caller.waits]:
            Client(caller).answer(status=status, text=text)

    def close(self) -> None:
        """Remove the socket."""
        if self.door.sock is not None:
            self.door.close()
            with suppress(OSError):
                os.unlink(self.path)

    def bequeath(self) -> dict[str, Any]:
        return {"path": self.path, **self.door.bequeath()}

    def inherit(self, entry: dict[str, Any]) -> None:
        self.path = entry["path"]
        self.door.inherit(entry)


def _listening(path: str) -> socket:
    """A socket that nobody but its owner may connect to, from its first moment."""
    sock = socket(AF_UNIX, SOCK_STREAM)
    try:
        sock.setblocking(False)
        if os.path.exists(path) and sock.connect_ex(path) == 0:
            raise OSError("another server answers there")
        sock.close()
        sock = socket(AF_UNIX, SOCK_STREAM)
        sock.setblocking(False)
        with suppress(FileNotFoundError):
            os.unlink(path)
        before = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(POLICY.callers)
    except BaseException:
        sock.close()
        raise
    return sock
