"""Filters for system calls (seccomp(2)): which calls a process, all its threads and what it starts may make.

A filter is a program for the kernel: rules in their order, the first that fits decides. It can't be taken off again.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import NamedTuple

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, ERRNO, KILL, LOG = 0x7FFF0000, 0x00050000, 0x80000000, 0x7FFC0000
LOAD, EQUAL, AT_LEAST, AND, RETURN, ANY_BIT = 0x20, 0x15, 0x35, 0x54, 0x06, 0x45
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data."""
X32 = 0x40000000
SET_MODE_FILTER, TSYNC = 1, 1


class Test(NamedTuple):
    """A condition on an argument: ``==`` the value, or the bits of ``value`` that are set, all or any."""

    argument: int
    value: int
    kind: str


class Filter:
    """Rules that are being written."""

    def __init__(self) -> None:
        self._program: list[tuple[int, int, int, int]] = []

    def rule(self, name: str, action: int, test: Test | None = None) -> None:
        """What happens at a call, when the test holds. RuntimeError for a system call that isn't."""
        number = resolve(name)
        if number is None:
            raise RuntimeError(f"system call '{name}' does not exist")
        rest = [*(_tested(test) if test else ()), (RETURN, 0, 0, action)]
        self._program += [(LOAD, 0, 0, NUMBER), (EQUAL, 0, len(rest), number), *_aimed(rest)]

    def rules(self, names: str, action: int) -> None:
        """The same for many; names that are no system calls of this machine are left out."""
        self._program.append((LOAD, 0, 0, NUMBER))
        for name in names.split():
            number = resolve(name)
            if number is not None:
                self._program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, action)]

    def statement(self, code: int, value: int) -> None:
        """One instruction as it is."""
        self._program.append((code, 0, 0, value))

    def enforce(self, other: int) -> None:
        """Confine this process, all of its threads, for good; ``other`` is for calls that no rule names.

        OSError when the kernel refuses.
        """
        machine = platform.machine()
        program = [
            (LOAD, 0, 0, ARCHITECTURE),
            (EQUAL, 1, 0, ARCHITECTURES[machine]),
            (RETURN, 0, 0, KILL),
            (LOAD, 0, 0, NUMBER),
            *([(AT_LEAST, 0, 1, X32), (RETURN, 0, 0, KILL)] if machine == "x86_64" else []),
            *self._program,
            (RETURN, 0, 0, other),
        ]
        code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
        head = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
        if _libc.syscall(resolve("seccomp"), SET_MODE_FILTER, TSYNC, head) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"the kernel does not take seccomp's filter ({os.strerror(number)})")


def _tested(test: Test) -> list[tuple[int, int, int, int]]:
    """Instructions that go on when the test holds; a jump by -1 is one behind the rule, where the next begins."""
    low, high = ARGUMENTS + 8 * test.argument, ARGUMENTS + 8 * test.argument + 4
    values = test.value & 0xFFFFFFFF, test.value >> 32 & 0xFFFFFFFF
    if test.kind == "any":
        return [(LOAD, 0, 0, low), (ANY_BIT, 2, 0, values[0]), (LOAD, 0, 0, high), (ANY_BIT, 0, -1, values[1])]
    lines = []
    for offset, value in zip((low, high), values, strict=True):
        lines.append((LOAD, 0, 0, offset))
        if test.kind == "all":
            lines.append((AND, 0, 0, value))
        lines.append((EQUAL, 0, -1, value))
    return lines


def _aimed(lines: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    return [
        (code, true, len(lines) - at - 1 if false < 0 else false, value)
        for at, (code, true, false, value) in enumerate(lines)
    ]


def lacking() -> str:
    """What this machine lacks for filters; "" when it has all."""
    if _library is None or platform.machine() not in ARCHITECTURES:
        return "seccomp needs libseccomp.so.2 (Debian: libseccomp2) on x86_64 or aarch64"
    return ""


def resolve(name: str) -> int | None:
    """The number of a system call on this machine, None when it has none of that name."""
    if _library is None:
        return None
    number: int = _library.seccomp_syscall_resolve_name(name.encode())
    return number if number >= 0 else None


def _loaded() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None


_libc = ctypes.CDLL(None, use_errno=True)
_library = _loaded()
"""Only for the numbers of names; loaded in the parent, because its children may be in a chroot."""
