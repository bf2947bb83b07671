"""One line, one write: what every process of gkore says to whoever watches it.

A line is ``YYYY-MM-DD HH:MM:SS.mmm UTC proc=[wrk 1] log=[text]``, Kore 4's format, and is handed to the kernel in a single
``os.write``, so that lines of several processes never interleave. Newlines inside a text become separate lines.
"""

from __future__ import annotations

import os
import sys
import syslog
import time
from traceback import format_exception

ERR, NOTICE, INFO = syslog.LOG_ERR, syslog.LOG_NOTICE, syslog.LOG_INFO


class Log:
    """The log of this process: to a descriptor (stderr, ``logfile``) or to syslog when there is none."""

    __slots__ = ("descriptor", "path", "process", "quiet")

    def __init__(self) -> None:
        self.descriptor: int | None = 2
        self.path = ""
        self.process = "parent"
        self.quiet = False

    def open(self, path: str) -> None:
        """Append to ``path`` from now on; opened again under the same name after a rotation. OSError as open(2)."""
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if self.path and self.descriptor is not None and self.descriptor > 2:
            os.close(self.descriptor)
        self.path, self.descriptor = path, descriptor

    def to_syslog(self) -> None:
        """Say everything to syslog, facility daemon, as Kore does when it has no terminal and no logfile."""
        syslog.openlog("gkore", syslog.LOG_PID, syslog.LOG_DAEMON)
        self.descriptor = None

    def write(self, priority: int, text: str) -> None:
        if self.quiet and priority > ERR:
            return
        for line in text.splitlines() or [""]:
            self._line(priority, line)

    def _line(self, priority: int, line: str) -> None:
        if self.descriptor is None:
            syslog.syslog(priority, f"[{self.process}]: {line}")
            return
        now = time.time()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))
        data = f"{stamp}.{int(now * 1000) % 1000:03d} UTC proc=[{self.process}] log=[{line}]\n"
        try:
            os.write(self.descriptor, data.encode("utf-8", "backslashreplace"))
        except OSError:
            pass  # a full disk or a closed terminal must not end a server


log = Log()


def info(text: str) -> None:
    log.write(INFO, text)


def notice(text: str) -> None:
    log.write(NOTICE, text)


def error(text: str) -> None:
    log.write(ERR, text)


def exception(what: str, failure: BaseException | None = None) -> None:
    """Log ``what`` and the traceback of ``failure`` (default: the exception being handled)."""
    failure = failure or sys.exception()
    log.write(ERR, what)
    if failure is not None:
        log.write(ERR, "".join(format_exception(failure)).rstrip())
