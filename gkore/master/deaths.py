"""How those children ended that are no workers: each is waited for by whoever forked it.

As process 1 of a container the master collects whatever ends, strangers too, and so these before their parents' code
comes to ask. What it learns of them is kept here.
"""

from __future__ import annotations

from posix import WNOHANG, waitpid  # not of os: see children

_awaited: dict[int, int | None] = {}
"""Processes that somebody will ask for, with the wait status of those that process 1 has collected."""


def await_death(pid: int) -> int:
    """Somebody will ask how ``pid`` ended, until it has; ``pid`` again."""
    _awaited[pid] = None
    return pid


def collected(pid: int, status: int) -> None:
    """Process 1 has collected somebody."""
    if pid in _awaited:
        _awaited[pid] = status


def ended(pid: int, lost: int = 0) -> int | None:
    """The wait status of a child that has ended, told once, or None; ``lost`` when nobody knows it.

    User code in the parent may have waited for "any child" and got this one.
    """
    status = _awaited.get(pid)
    if status is None:
        try:
            found, status = waitpid(pid, WNOHANG)
        except ChildProcessError:
            found, status = pid, lost
        if not found:
            return None
    _awaited.pop(pid, None)
    return status


def wait(pid: int) -> None:
    """Until a child that was killed has ended."""
    if _awaited.pop(pid, None) is None:
        try:
            waitpid(pid, 0)
        except ChildProcessError:
            pass  # see ``ended``
