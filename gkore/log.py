"""One line, one write: what every process of gkore says to whoever watches it.

A line is handed to the kernel in a single ``os.write``, so that lines of several processes never interleave; what a
pipe does not take in one piece is made several lines. Its shape is ``log_format``: ``kore``, Kore 4's
``YYYY-MM-DD HH:MM:SS.mmm UTC proc=[wrk 1] log=[text]``; ``text``; or ``json``, one object a text. Newlines inside a
text become separate lines, but in json they stay. The journal of systemd gets each line with its priority in front
(sd-daemon(3)).
"""

from __future__ import annotations

import json
import os
import select
import stat
import sys
import syslog
import time
from io import TextIOWrapper
from posix import close  # os.close, once patched, waits for a turn of the hub: where none comes, for ever
from traceback import format_exception

ERR, NOTICE, INFO = syslog.LOG_ERR, syslog.LOG_NOTICE, syslog.LOG_INFO
SELDOM = 60.0
LEVELS = {ERR: "error", NOTICE: "notice", INFO: "info"}


class Log:
    """The log of this process: to a descriptor (stderr, ``logfile``) or to syslog when there is none."""

    __slots__ = ("_most", "_streams", "descriptor", "format", "journal", "path", "process", "quiet")

    def __init__(self) -> None:
        self.descriptor: int | None = 2
        self.path = ""
        self.process = "parent"
        self.quiet = False
        self.format = "kore"
        self.journal = to_journal(2)
        """Whether ``descriptor`` is a stream to systemd's journal."""
        self._most = in_one_piece(2)
        self._streams = False

    def open(self, path: str) -> None:
        """Append to ``path`` from now on; opened again under the same name after a rotation. OSError as open(2)."""
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if self.path:
            self.adopt(descriptor)
            close(descriptor)
        else:
            self.descriptor, self.journal = descriptor, False
            self._settle()
        self.path = path

    def adopt(self, descriptor: int) -> None:
        """Go on in that file; the number of our descriptor stays, which others may know."""
        if self.path and self.descriptor is not None:
            os.dup2(descriptor, self.descriptor, inheritable=False)
            self._settle()

    def _settle(self) -> None:
        """There is another file beneath the descriptor."""
        assert self.descriptor is not None
        self._most = in_one_piece(self.descriptor)
        if self._streams:
            self.take_streams()

    def take_streams(self) -> None:
        """Let what is printed go into the file, too: a daemon's."""
        self._streams = True
        if self.descriptor is not None:
            for stream in (1, 2):
                os.dup2(self.descriptor, stream)

    def to_syslog(self) -> None:
        """Say everything to syslog, facility daemon, as Kore does when it has no terminal and no logfile."""
        syslog.openlog("gkore", syslog.LOG_PID, syslog.LOG_DAEMON)
        self.descriptor = None

    def write(self, priority: int, text: str) -> None:
        if self.quiet and priority > ERR:
            return
        for line in [text] if self.format == "json" else text.splitlines() or [""]:
            self._line(priority, line)

    def _line(self, priority: int, text: str) -> None:
        if self.descriptor is None:
            syslog.syslog(priority, f"[{self.process}]: {text}")
            return
        data = self._shaped(time.time(), priority, text)
        if self.journal:
            data = f"<{priority}>{data}"
        line = data.encode("utf-8", "backslashreplace")
        if len(line) > self._most and len(text) > 1:
            half = len(text) // 2
            half = text.rfind("\n", 0, half) + 1 or half
            self._line(priority, text[:half])
            self._line(priority, text[half:])
            return
        try:
            os.write(self.descriptor, line)
        except OSError:
            pass  # a full disk or a closed terminal must not end a server

    def _shaped(self, now: float, priority: int, line: str) -> str:
        clock, thousandths = time.gmtime(now), int(now * 1000) % 1000
        if self.format == "kore":
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", clock)
            return f"{stamp}.{thousandths:03d} UTC proc=[{self.process}] log=[{line}]\n"
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', clock)}.{thousandths:03d}Z"
        level = LEVELS.get(priority, str(priority))
        if self.format == "json":
            return json.dumps({"time": stamp, "level": level, "process": self.process, "text": line}) + "\n"
        return f"{stamp} {level} [{self.process}] {line}\n"


def to_journal(descriptor: int) -> bool:
    """Whether a descriptor is the stream that systemd says it is (JOURNAL_STREAM, systemd.exec(5))."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"


def in_one_piece(descriptor: int) -> int:
    """How many bytes nobody else's can come between: pipes hold a guarantee (pipe(7)), files opened for it whatever."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return sys.maxsize
    return select.PIPE_BUF if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else sys.maxsize


def print_lines() -> None:
    """From now on what is printed is written at the end of each line, in one piece.

    Into a pipe or a file it would be written by the block, and be lost when the process crashes; with PYTHONUNBUFFERED
    word by word, with those of other processes between them.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)


log = Log()


def info(text: str) -> None:
    log.write(INFO, text)


def notice(text: str) -> None:
    log.write(NOTICE, text)


def error(text: str) -> None:
    log.write(ERR, text)


def counted(number: int, noun: str) -> str:
    """``1 worker``, ``2 workers``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_said: dict[str, float] = {}


def seldom(what: str, text: str) -> None:
    """Log an error, but about the same ``what`` at most once in SELDOM seconds: what repeats with every client."""
    now = time.monotonic()
    if now - _said.get(what, -SELDOM) >= SELDOM:
        _said[what] = now
        error(text)


def exception(what: str, failure: BaseException | None = None) -> None:
    """Log ``what`` and the traceback of ``failure`` (default: the exception being handled)."""
    failure = failure or sys.exception()
    log.write(ERR, what)
    if failure is not None:
        log.write(ERR, "".join(format_exception(failure)).rstrip())
