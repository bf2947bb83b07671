"""``kore.dblisten``: NOTIFY as an async iterator, on a connection of its own. Ours: Kore's Python has none."""

from __future__ import annotations

from gkore.worker import database, postgres
from gkore.worker.postgres import Link
from gkore.worker.waits import Awaitable


class Listener:
    """``async for payload in kore.dblisten("db", "channel")``."""

    __slots__ = ("_channel", "_database", "_link")

    def __init__(self, name: str, channel: str) -> None:
        self._database = database.find(name)
        self._channel = channel
        self._link: Link | None = None

    def __aiter__(self) -> Listener:
        return self

    def __anext__(self) -> Notification:
        return Notification(self)

    def next(self) -> str:
        """The next payload. RuntimeError when the connection is lost: the next call makes a new one."""
        if self._link is None:
            self._link = postgres.connect(self._database.dsn, lambda link: None)
            quoted = self._channel.replace('"', '""')
            self._link.ask(f'LISTEN "{quoted}"', (), False)
        try:
            return self._link.next_payload(self)
        except RuntimeError:
            self.close()
            raise

    def close(self) -> None:
        """Stop listening; twice is harmless."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def __del__(self) -> None:
        if hasattr(self, "_link"):
            self.close()

    def __str__(self) -> str:
        return f"channel {self._channel} of database {self._database.name}"


class Notification(Awaitable):
    __slots__ = ("_listener",)

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def wait(self) -> str:
        return self._listener.next()

    def __str__(self) -> str:
        return str(self._listener)
