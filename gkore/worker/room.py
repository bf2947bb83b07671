"""A full worker makes room: connections on which nobody is being served go, as soon as somebody waits at the door.

Otherwise a few hundred clients that are silent, or slow on purpose, would lock out all others until their timeouts.
First those go that are idle (nginx drains its oldest idle connections likewise), then those whose request does not
come to an end, then readers that take nothing; of each kind the one that has waited longest. Requests that are being
served, readers that take something, and websockets stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gkore import log
from gkore.errors import ProtocolError

if TYPE_CHECKING:
    from gkore.worker.connection import Connection

IDLE, COMING, STUCK = 1, 3, 10
"""Seconds that each of these kinds may wait in a crowd; a request whose head is there counts as STUCK."""
SILENCE = 60
"""Seconds between two lines in the log."""
TOO_SLOW = ProtocolError(408, "the worker is full, and this request did not come to an end")

_said: dict[bool, int] = {}


def make_room(connections: Iterable[Connection], now: int, most: int) -> bool:
    """Let go of the ``most`` connections that can be missed best; False when there are none. ``now`` as the clock's."""
    every = list(connections)
    found = [(kind, connection.since, connection) for connection in every if (kind := kind_of(connection, now))]
    found.sort(key=lambda one: one[:2])
    for kind, _, connection in found[:most]:
        dismiss(connection, kind)
    _say(len(every), bool(found), now)
    return bool(found)


def kind_of(connection: Connection, now: int) -> int:
    """IDLE, COMING or STUCK when it has been that for too long, else 0."""
    if connection.websocket is not None:
        return 0
    if connection.task is not None or connection.batch is not None:
        kind = STUCK if connection.writing else 0
    elif connection.parser is not None:
        kind = COMING if connection.parser.head is None else STUCK
    else:
        kind = IDLE if connection.served or connection.lingering else COMING
    return kind if now - connection.since > kind else 0


def dismiss(connection: Connection, kind: int) -> None:
    if connection.writing:
        connection.abort()
        return
    if connection.parser is not None and kind != IDLE:
        connection.tell(TOO_SLOW)
    connection.close()


def _say(count: int, relieved: bool, now: int) -> None:
    if now - _said.get(relieved, -SILENCE) < SILENCE:
        return
    _said[relieved] = now
    what = "those that wait longest make room" if relieved else "all of them are busy, others wait to be accepted"
    log.notice(f"{count} connections, and more want in: {what} (worker_max_connections)")
