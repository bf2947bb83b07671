"""Sockets that systemd opened before it started us (sd_listen_fds(3))."""

from __future__ import annotations

import os

from gkore.conf.site import Bind
from gkore.master.address import SHARED, Address, existing, taken

LISTEN_FDS_START = 3


def given() -> list[tuple[str, Address]]:
    """What we were handed, once: names and addresses."""
    return [(name, _address(descriptor)) for name, descriptor in passed()]


def _address(descriptor: int) -> Address:
    sock = taken(descriptor)
    found = sock.getsockname()
    bind = Bind(found[0], str(found[1])) if isinstance(found, tuple) else Bind(path=spelled(found))
    return existing(bind, {SHARED: sock})


def passed() -> list[tuple[str, int]]:
    """Names and descriptors of the sockets that systemd hands over, once (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES)."""
    words = [os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")]
    if words[0] != str(os.getpid()) or not words[1].isdecimal():
        return []
    names = words[2].split(":") if words[2] else []
    return [(names[n] if n < len(names) else "", LISTEN_FDS_START + n) for n in range(int(words[1]))]


def spelled(name: str | bytes) -> str:
    """A UNIX socket's name as a conf spells it."""
    text = name if isinstance(name, str) else os.fsdecode(name)
    return f"@{text[1:]}" if text.startswith("\0") else text
