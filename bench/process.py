"""What a tree of processes costs, read from /proc: CPU seconds and resident bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True, frozen=True)
class Stat:
    """One process: proc(5), /proc/PID/stat fields 4 and 14 to 17, and 24."""

    parent: int
    cpu: float
    """Seconds, user and system, its own (all threads) and of children that it has already reaped."""
    rss: int


def stat(pid: int) -> Stat | None:
    """None when the process has gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            text = file.read()
    except OSError:
        return None
    words = text.rpartition(")")[2].split()  # the name, field 2, may hold spaces and brackets
    return Stat(int(words[1]), sum(map(int, words[11:15])) / TICK, int(words[21]) * PAGE)


def tree(root: int) -> dict[int, Stat]:
    """``root`` and all its living descendants, by pid."""
    everyone = {pid: found for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if (found := stat(pid))}
    family: dict[int, Stat] = {}
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        if pid in everyone:
            family[pid] = everyone[pid]
            waiting.extend(child for child, found in everyone.items() if found.parent == pid)
    return family


def cpu_seconds(root: int) -> float:
    """CPU used so far by the tree; grows steadily, as a child that is reaped goes into its parent's account."""
    return sum(found.cpu for found in tree(root).values())


def rss_bytes(root: int) -> int:
    """Resident memory of the tree; pages shared by several processes count once for each."""
    return sum(found.rss for found in tree(root).values())


@dataclass(slots=True, frozen=True)
class CoreTime:
    """What happened on some cores so far, in seconds (proc(5), /proc/stat)."""

    processes: float
    """User, nice and system time; interrupts are in neither."""
    stolen: float
    """The hypervisor ran somebody else; the kernel may charge it to whoever was running here."""


def core_time(cores: str) -> CoreTime:
    """Of a list as taskset(1) has it."""
    wanted = {f"cpu{core}" for core in cores.split(",")}
    processes = stolen = 0.0
    with open("/proc/stat", encoding="ascii") as file:
        for line in file:
            name, *numbers = line.split()
            if name in wanted:
                ticks = [int(number) / TICK for number in numbers]
                processes += sum(ticks[:3])
                stolen += ticks[7]
    return CoreTime(processes, stolen)
