"""The control socket: how ``gkore reload``, ``stop``, ``status`` and ``dump`` find a running master.

A UNIX socket of mode 0600 beside the pid file: who may connect may also signal the master. A client sends one line,
one word, and gets one line of JSON: ``{"status": 0, ...}``. The answer to ``reload`` comes when that has succeeded or
failed, and its connection is handed on to the master's next program; that of ``stop`` is closed by the server's end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from select import POLLIN
from socket import AF_UNIX, SOCK_STREAM, socket
from time import monotonic
from typing import Any

from gkore import log
from gkore.errors import StartError

CLIENTS_MAX = 16
COMMAND_MAX = 256
TIME_MAX = 5.0
"""Seconds to say what one wants."""


def beside(pidfile: str) -> str:
    """The control socket's path where the conf names none: beside the pid file."""
    return f"{os.path.splitext(pidfile)[0]}.control" if pidfile else ""


class Client:
    """One connection to the control socket."""

    events = POLLIN

    def __init__(self, sock: socket, control: Control) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.deadline = monotonic() + TIME_MAX
        self.waits = False
        """For the end of a reload or of the server."""
        self._control = control
        self._said = b""

    def fileno(self) -> int:
        return self.sock.fileno()

    def act(self, _: int) -> None:
        try:
            data = self.sock.recv(COMMAND_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._said += data
        if not data or len(self._said) > COMMAND_MAX:
            self._control.leave(self)
        elif self._said.endswith(b"\n") and not self.waits:
            self.deadline = float("inf")
            self._control.obey(self, self._said.decode("utf-8", "replace").strip())

    def answer(self, **fields: Any) -> None:
        """Say it and hang up; a client that does not read gets what fits into its buffer."""
        with suppress(OSError):
            self.sock.setblocking(True)
            self.sock.settimeout(1.0)
            self.sock.sendall(json.dumps(fields).encode() + b"\n")
        self._control.leave(self)


class Control:
    """The listening socket and its clients; ``commands`` are called with the client and answer it."""

    events = POLLIN

    def __init__(self) -> None:
        self.path = ""
        self.commands: dict[str, Callable[[Client], object]] = {}
        self.clients: list[Client] = []
        self._sock: socket | None = None

    def open(self, path: str, must: bool) -> None:
        """Listen at ``path``; when that can't be it is said, and StartError if the conf asks for it (``must``)."""
        if not path or (self._sock is not None and path == self.path):
            return
        self.close()
        try:
            self._sock = _listening(path)
            self.path = os.path.abspath(path)
        except OSError as failure:
            text = f"control socket {path}: {failure.strerror or failure}"
            if must:
                raise StartError(text) from None
            log.notice(f"{text}; going on without it")

    def sources(self) -> Iterator[Control | Client]:
        if self._sock is not None:
            yield self
        yield from self.clients

    def sockets(self) -> Iterable[socket]:
        yield from (client.sock for client in self.clients)
        if self._sock is not None:
            yield self._sock

    def fileno(self) -> int:
        assert self._sock is not None
        return self._sock.fileno()

    def act(self, _: int) -> None:
        assert self._sock is not None
        try:
            sock, _address = self._sock.accept()
        except OSError:
            return
        if len(self.clients) >= CLIENTS_MAX:
            sock.close()
        else:
            self.clients.append(Client(sock, self))

    def obey(self, client: Client, command: str) -> None:
        action = self.commands.get(command)
        if action is None:
            client.answer(status=2, text=f"unknown command {command}, expected {', '.join(sorted(self.commands))}")
        else:
            action(client)

    def leave(self, client: Client) -> None:
        if client in self.clients:
            self.clients.remove(client)
        client.sock.close()

    def tick(self, now: float) -> None:
        """Hang up on clients that say nothing."""
        for client in [client for client in self.clients if now > client.deadline]:
            self.leave(client)

    def answer(self, status: int, text: str) -> None:
        """Tell everybody who waits how the reload went."""
        for client in [client for client in self.clients if client.waits]:
            client.answer(status=status, text=text)

    def close(self) -> None:
        """Remove the socket. Clients that wait are let go by the end of the process."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
            with suppress(OSError):
                os.unlink(self.path)

    # From one program of the master to the next.

    def bequeath(self) -> dict[str, Any]:
        waiting = [client.fileno() for client in self.clients if client.waits]
        return {"path": self.path, "descriptor": self._sock.fileno() if self._sock else None, "waiting": waiting}

    def inherit(self, entry: dict[str, Any]) -> None:
        self.path = entry["path"]
        if entry["descriptor"] is not None:
            self._sock = socket(fileno=entry["descriptor"])
            self._sock.set_inheritable(False)
        for descriptor in entry["waiting"]:
            client = Client(socket(fileno=descriptor), self)
            client.sock.set_inheritable(False)
            client.waits, client.deadline = True, float("inf")
            self.clients.append(client)


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
        sock.listen(CLIENTS_MAX)
    except BaseException:
        sock.close()
        raise
    return sock
