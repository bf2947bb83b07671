"""``landlock yes``: which files a worker may reach, whatever the user it runs as may (landlock(7), Linux 5.13).

A worker may read what code needs: Python, the system's libraries and programs, the names and addresses of the machine,
the application's modules, its filemaps. It may write to the directory of bodies. All else is ``landlock_read`` and
``landlock_write``; what is open already, such as the logs, stays open. The rules can't be taken off again, and the
programs that a worker starts inherit them.

Where the application's modules lie often lies more: the conf, keys, ``.env``. So of a directory of modules only the
Python files, their ``__pycache__`` and the packages in it can be read. It can be listed.

Kore has none of it.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from posix import close  # not os.close: see log
from typing import TYPE_CHECKING

from gkore.errors import StartError

if TYPE_CHECKING:
    from gkore.conf.application import Application

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""System calls; the same numbers on every architecture."""
VERSION, PATH_BENEATH = 1, 1
NO_NEW_PRIVS = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
TRUNCATE, DEVICE = 1 << 14, 1 << 15
KNOWN = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}
"""The rights on files by version of the interface; all of them are ours to grant."""
ALL = (1 << 16) - 1
"""Since version 5."""
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | DEVICE
READ = EXECUTE | READ_FILE | READ_DIR
MAKE_CHAR, MAKE_BLOCK = 1 << 6, 1 << 11
WRITE = ALL & ~(EXECUTE | DEVICE | MAKE_CHAR | MAKE_BLOCK)
"""Reading, too: everything but running what is there, and devices."""

SYSTEM = """
/usr /lib /lib32 /lib64 /bin /sbin /opt /run/systemd/resolve /sys/devices/system/cpu /etc/ld.so.cache
/etc/ld.so.preload /etc/resolv.conf /etc/hosts /etc/host.conf /etc/nsswitch.conf /etc/gai.conf /etc/services
/etc/protocols /etc/passwd /etc/group /etc/localtime /etc/timezone /etc/mime.types /etc/ssl/certs
/etc/ssl/openssl.cnf /etc/pki/tls/certs /etc/ca-certificates
"""
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """Of the kernel's interface; 0 when it has none, or was started without it."""
    found: int = _libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION)
    return max(0, found)


def confine(application: Application) -> None:
    """Restrict this process, from here on, when the conf asks for it. StartError when the kernel can't."""
    if not application.settings.landlock:
        return
    found = version()
    if not found:
        raise StartError(
            "landlock yes: this kernel has none (Linux 5.13, CONFIG_SECURITY_LANDLOCK, lsm=); `landlock no`"
        )
    rules = Rules(KNOWN.get(found, ALL if found >= 5 else KNOWN[3]))
    try:
        for path in (*SYSTEM.split(), *prefixes(), "/proc/self"):
            rules.allow(path, READ)
        for path in DEVICES:
            rules.allow(path, READ_FILE | WRITE_FILE | TRUNCATE)
        for directory in sys.path:
            rules.allow_modules(os.path.abspath(directory or "."))
        for path in readable(application):
            rules.allow(path, READ)
        for path in writable(application):
            rules.allow(path, WRITE)
        rules.enforce()
    finally:
        close(rules.descriptor)


def prefixes() -> set[str]:
    """Where this Python and its packages are; not asked of ``sysconfig``, which may be out of reach by now."""
    return {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}


def readable(application: Application) -> Iterator[str]:
    """What the site serves, and what the conf adds."""
    for domain in application.site.domains:
        yield from (filemap.directory for filemap in domain.filemaps)
    yield "assets"
    yield from application.settings.landlock_read


def writable(application: Application) -> Iterator[str]:
    """Where bodies go, and what the conf adds. Logs are open already, and the master hands out new ones."""
    settings = application.settings
    if settings.http_body_disk_offload:
        yield settings.http_body_disk_path
    yield from settings.landlock_write


class Rules:
    """A ruleset that is being written; ``handled`` are the rights that it is about."""

    def __init__(self, handled: int) -> None:
        self._handled = handled
        attributes = ctypes.create_string_buffer(struct.pack("=Q", handled), 8)
        self.descriptor = _libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(8), 0)
        if self.descriptor < 0:
            raise _failure("no set of rules")

    def allow(self, path: str, rights: int) -> None:
        """Allow it for a file, or for all that is beneath a directory. What is not there needs no rule."""
        with suppress(OSError):
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                if not os.path.isdir(path):
                    rights &= OF_FILES
                rule = ctypes.create_string_buffer(struct.pack("=Qi", rights & self._handled, descriptor), 12)
                if _libc.syscall(ADD_RULE, self.descriptor, PATH_BENEATH, rule, 0) != 0:
                    raise _failure(f"no rule for {path}")
            finally:
                close(descriptor)

    def allow_modules(self, directory: str) -> None:
        """Allow to read the modules in a directory, and to look for them."""
        if any(directory == prefix or directory.startswith(f"{prefix}/") for prefix in (*prefixes(), *SYSTEM.split())):
            return  # beneath what can be read anyhow
        if os.path.isfile(directory):  # a zip of modules
            self.allow(directory, READ)
            return
        self.allow(directory, READ_DIR)
        with suppress(OSError):
            for entry in os.scandir(directory):
                if entry.is_dir():
                    if entry.name == "__pycache__" or _holds_modules(entry.path):
                        self.allow(entry.path, READ)
                elif entry.name.endswith((".py", ".pyc", ".so", ".pth")):
                    self.allow(entry.path, READ)

    def enforce(self) -> None:
        """From now on, for good. StartError when the kernel refuses."""
        _libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
        if _libc.syscall(RESTRICT_SELF, self.descriptor, 0) != 0:
            raise _failure("the rules are refused")


def _holds_modules(directory: str) -> bool:
    with suppress(OSError):
        return any(name.endswith((".py", ".so")) for name in os.listdir(directory))
    return False


def _failure(what: str) -> StartError:
    return StartError(f"landlock: {what}: {os.strerror(ctypes.get_errno())}; without it: `landlock no`")
