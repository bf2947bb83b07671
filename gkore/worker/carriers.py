"""What carries parcels between hosts: Redis' publish and subscribe, PostgreSQL's NOTIFY and LISTEN.

Both block on patched sockets, so they are used on greenlets of their own. Neither keeps anything for who is not there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit, urlunsplit

import gevent
from gevent.socket import wait_read

from gkore.errors import StartError
from gkore.protocol.parcels import Joiner, cut
from gkore.worker import database

CHANNEL = "gkore"
PATIENCE = 10
"""Seconds for a connection to be made, and of silence before it is asked for a sign of life."""


class Carrier(Protocol):
    """``publish`` and ``listen`` connect by themselves; both raise, whatever it be, when their connection is lost."""

    def publish(self, parcels: list[bytes]) -> None: ...

    def listen(self, connected: Callable[[], object], heard: Callable[[bytes], object]) -> None: ...

    def close(self) -> None: ...


class Redis:
    """``redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE][?channel=NAME]``, or ``rediss:``, ``unix:`` as redis-py."""

    def __init__(self, url: str) -> None:
        """StartError when redis-py is not installed or the URL is wrong."""
        try:
            import redis
        except ImportError:
            raise StartError('websocket_bus needs redis-py: pip install "gkore[redis]"') from None
        parts = urlsplit(url)
        options = parse_qs(parts.query)
        self.channel = options.pop("channel", [CHANNEL])[0]
        query = "&".join(f"{name}={value}" for name, values in options.items() for value in values)
        try:
            self._client: Any = redis.Redis.from_url(
                urlunsplit(parts._replace(query=query)),
                socket_connect_timeout=PATIENCE,
                socket_timeout=PATIENCE,
                socket_keepalive=True,
                health_check_interval=PATIENCE,
                retry=None,
            )
        except ValueError as wrong:
            raise StartError(f"websocket_bus {url}: {wrong}") from None

    def publish(self, parcels: list[bytes]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for parcel in parcels:
            pipeline.publish(self.channel, parcel)
        pipeline.execute()

    def listen(self, connected: Callable[[], object], heard: Callable[[bytes], object]) -> None:
        with self._client.pubsub() as ear:
            ear.subscribe(self.channel)
            while True:
                message = ear.get_message(timeout=PATIENCE / 2)
                if message is None:
                    ear.ping()
                elif message["type"] == "subscribe":
                    connected()
                elif message["type"] == "message":
                    heard(message["data"])

    def close(self) -> None:
        self._client.close()


class Postgres:
    """``postgres NAME``: the database that ``kore.dbsetup`` or ``kore.register_database`` calls so."""

    def __init__(self, name: str, channel: str = CHANNEL) -> None:
        """StartError when no database has this name."""
        try:
            self._dsn = database.find(name).dsn
        except RuntimeError:
            raise StartError(
                f'websocket_bus postgres {name}: no database is called so; kore.dbsetup("{name}", "...") makes one'
            ) from None
        self.channel = channel
        self._mouth: Any = None

    def _connect(self) -> Any:
        import psycopg2

        with gevent.Timeout(PATIENCE, TimeoutError("no connection in time")):
            made = psycopg2.connect(self._dsn)
        made.autocommit = True
        return made

    def publish(self, parcels: list[bytes]) -> None:
        if self._mouth is None:
            self._mouth = self._connect()
        pieces = [piece for parcel in parcels for piece in cut(parcel)]
        try:
            with self._mouth.cursor() as cursor:
                cursor.execute("SELECT count(pg_notify(%s, piece)) FROM unnest(%s) AS piece", (self.channel, pieces))
        except BaseException:
            self.close()
            raise

    def listen(self, connected: Callable[[], object], heard: Callable[[bytes], object]) -> None:
        ear = self._connect()
        joiner = Joiner()
        try:
            with ear.cursor() as cursor:
                cursor.execute(f'LISTEN "{self.channel}"')
                connected()
                while True:
                    try:
                        wait_read(ear.fileno(), timeout=PATIENCE, timeout_exc=TimeoutError())
                    except TimeoutError:
                        with gevent.Timeout(PATIENCE, TimeoutError("no sign of life")):
                            cursor.execute("SELECT 1")
                    ear.poll()
                    while ear.notifies:
                        parcel = joiner.add(ear.notifies.pop(0).payload)
                        if parcel is not None:
                            heard(parcel)
        finally:
            ear.close()

    def close(self) -> None:
        if self._mouth is not None:
            self._mouth.close()
            self._mouth = None


def carrier(text: str) -> Carrier:
    """The carrier that a ``websocket_bus`` setting names. StartError when it names none."""
    kind, _, name = text.partition(" ")
    if kind == "postgres" and name.strip():
        return Postgres(name.strip())
    if text.startswith(("redis://", "rediss://", "unix://")):
        return Redis(text)
    raise StartError(f"websocket_bus {text}: neither redis://HOST nor postgres DATABASE")
