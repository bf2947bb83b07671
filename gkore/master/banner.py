"""What somebody who starts a server at a terminal sees: where it listens, how it is stopped, how it reloads.

Files, pipes and the journal get the plain lines of the log only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from gkore import __version__, log
from gkore.log import counted

BOLD, BLUE, PLAIN = "\033[1m", "\033[1;34m", "\033[0m"
EVERY = re.compile(r"//(0\.0\.0\.0|\[::\]|\*)?:")


def greet(urls: Iterable[str], workers: int, reloads: bool) -> None:
    """Say it if the log is a terminal; coloured unless NO_COLOR is set (no-color.org). ``reloads``: on every change."""
    if log.log.descriptor is None or log.log.quiet or not os.isatty(log.log.descriptor):
        return
    coloured = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    text = "\n".join(("", *lines(urls, workers, reloads, coloured), "", ""))
    try:
        os.write(log.log.descriptor, text.encode())
    except OSError:
        pass  # a terminal that was closed must not end a server


def lines(urls: Iterable[str], workers: int, reloads: bool, coloured: bool) -> Iterable[str]:
    """The banner, line by line."""
    bold, blue, plain = (BOLD, BLUE, PLAIN) if coloured else ("", "", "")
    pid = os.getpid()
    yield f"  {bold}gkore {__version__}{plain}  {counted(workers, 'worker')}, pid {pid}"
    for url in urls:
        every = EVERY.search(url)
        where = f"{EVERY.sub('//localhost:', url)}{plain}  (and every other address of this machine)" if every else url
        yield f"  {blue}{where}{plain}"
    how = "every change of a file" if reloads else f"kill -HUP {pid}"
    yield f"  {bold}Ctrl-C{plain} stops, {bold}{how}{plain} reloads"
