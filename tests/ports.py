"""Ports for programs that must be told one: held from the moment they are found until this process ends.

A port that was merely free is anybody's: while a program starts, the kernel may give it to another test's client. A
socket that is bound with SO_REUSEADDR and does not listen keeps it from being given to others, and lets a program that
sets that option, as servers do, listen there.
"""

from __future__ import annotations

import socket

_held: list[socket.socket] = []


def free_port() -> int:
    """A port of 127.0.0.1, of five digits, for texts that name one."""
    while True:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        _held.append(sock)
        if (port := int(sock.getsockname()[1])) > 9999:
            return port
