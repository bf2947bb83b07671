"""``gkore reload``, ``stop``, ``status`` and ``dump``: the other end of a running server's control socket.

The server is found through its conf (``-c FILE``, of which only ``control`` and ``pidfile`` are looked at: nothing is
imported), through ``--control PATH``, or through ./kore.control, where a server started here has its socket.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from socket import AF_UNIX, SO_PEERCRED, SOCK_STREAM, SOL_SOCKET, socket
from struct import unpack
from typing import Any

from gkore.conf import words
from gkore.conf.diagnostics import Mistake, Wrong
from gkore.conf.directives import SETTING_ROWS
from gkore.conf.reader import NESTING_MAX
from gkore.errors import StartError, Unanswered, UsageError
from gkore.log import counted
from gkore.master.control import beside

TURN = 1.0
"""Seconds between two looks at a server that has not answered yet."""
PATIENCE = 10.0
"""Seconds without a sign of life after which it is asked for one, or given up."""
SILENCE_MAX = {"reload": 130.0, "stop": 30.0}
"""Commands that may take until the last request is answered; seconds while an application may be imported, or its last
hooks run: nothing is answered then."""
HANGS = "it imports its application or hangs; its log may tell, and `kill -KILL` to its pid ends it, workers too"
COMMANDS = ("reload", "stop", "status", "dump")
CLEAR = "\r\033[K"
"""Back to the beginning of a terminal's line, which is emptied."""
HEAD = (
    f"{'WORKER':>6} {'PID':>8} {'STATE':<9} {'AGE':>8} {'REQ/S':>8} {'REQUESTS':>11} "
    f"{'CONNS':>6} {'WS':>6} {'TASKS':>6} {'RSS':>8} {'PRIVATE':>8} {'LAG':>7} {'BLOCKED':>7}"
)


def path_of(conf: str, control: str) -> str:
    """Where the server's control socket is. StartError when the conf can't be read."""
    if control:
        return control
    found = {"control": "", "pidfile": SETTING_ROWS["pidfile"].initial()}
    if conf:
        try:
            look(conf, found, [])
        except (OSError, ValueError) as failure:
            raise StartError(f"{conf}: {getattr(failure, 'strerror', None) or failure}") from None
    path = found["control"] or beside(found["pidfile"])
    there = os.path.join(os.path.dirname(conf), path)  # the server's directory is mostly that of its conf
    return there if os.path.exists(there) and not os.path.exists(path) else path


def look(path: str, found: dict[str, str], inside: list[str]) -> None:
    """Fill in what a conf, and what it includes, says of ``found``. OSError, ValueError when one can't be read."""
    for line in words.lines(words.read(path), path):
        if isinstance(line, Mistake):
            continue
        if line.name.text == "include" and len(inside) < NESTING_MAX:
            name = line.value.text
            beside_us = os.path.join(os.path.dirname(path), name)
            look(name if os.path.exists(name) else beside_us, found, [*inside, path])
        elif line.name.text in found:
            try:
                found[line.name.text] = words.substitute(line.value).text
            except Wrong as why:
                raise ValueError(f"{line.place()}: {why.message}, or say --control PATH") from None


def ask(path: str, command: str) -> dict[str, Any]:
    """Send one command and wait for what comes of it; {} when the server ended.

    StartError when none is there, Unanswered when it hangs: a server that works on a reload or a stop, which may take
    its time, still answers when it is asked for its status.
    """
    said = bytearray()
    with socket(AF_UNIX, SOCK_STREAM) as sock:
        sock.settimeout(TURN)
        try:
            sock.connect(path)
            sock.sendall(command.encode() + b"\n")
        except (BlockingIOError, TimeoutError):  # so many have asked already
            raise Unanswered(f"the server at {path} does not answer, and others wait for it: {HANGS}") from None
        except OSError as failure:
            raise StartError(f"no gkore answers at {path}: {failure.strerror} (--control PATH, or -c CONF)") from None
        pid = unpack("3i", sock.getsockopt(SOL_SOCKET, SO_PEERCRED, 12))[0]
        heard = time.monotonic()
        shown = command in SILENCE_MAX and sys.stderr.isatty()
        while not said.endswith(b"\n"):
            try:
                piece = sock.recv(65536)
            except TimeoutError:
                heard = _heard(path, command, pid, heard)
                if shown:
                    _show_progress(path)
                continue
            except ConnectionError:
                break
            if not piece:
                break
            said += piece
    if shown:
        sys.stderr.write(CLEAR)
    return json.loads(said) if said.endswith(b"\n") else {}


def _show_progress(path: str) -> None:
    """Say on the terminal how far a stop or a reload is."""
    try:
        found = ask(path, "status")
    except StartError:  # it accepts nobody any more: it is about to end
        return
    states = Counter(worker["state"] for worker in found.get("workers", ()))
    connections = sum(worker["connections"] for worker in found.get("workers", ()))
    text = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    sys.stderr.write(f"{CLEAR}workers: {text or 'none'}; {counted(connections, 'connection')}")
    sys.stderr.flush()


def _heard(path: str, command: str, pid: int, before: float) -> float:
    """When the server was last heard of, which it was ``before``. Unanswered when that is too long ago."""
    if _stopped(pid):
        raise Unanswered(f"the server at {path} is stopped: `kill -CONT {pid}` lets it go on")
    if time.monotonic() - before < PATIENCE:
        return before
    if command in SILENCE_MAX:
        with suppress(StartError):
            ask(path, "status")
            return time.monotonic()
    silence = time.monotonic() - before
    if silence < SILENCE_MAX.get(command, PATIENCE):
        return before
    raise Unanswered(f"the server at {path} (pid {pid}) has not answered for {silence:.0f} s: {HANGS}")


def _stopped(pid: int) -> bool:
    """Whether a process was sent SIGSTOP, or stands in a debugger."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(") ")[2][:1] in "Tt"
    except OSError:
        return False


def perform(said: Sequence[str], conf: str, control: str, watch: bool, as_json: bool) -> int:
    """Do what ``gkore COMMAND`` asks for; the exit status."""
    command, *rest = said
    if rest:
        raise UsageError(f"{command} takes no {rest[0]}: name the server with -c kore.conf or --control kore.control")
    path = path_of(conf, control)
    if command == "status":
        return show(path, watch, as_json)
    answer = ask(path, command)
    text = answer.get("text", "stopped" if command == "stop" else "")
    if not answer and command != "stop":
        raise StartError(f"the server ended during {command}: its log says why")
    status = int(answer.get("status", 0))
    print(text, file=sys.stderr if status else sys.stdout)
    return status


def show(path: str, watch: bool, as_json: bool) -> int:
    """Print the table, once or every second until the server ends or Ctrl-C."""
    found = ask(path, "status")
    alive = watch and sys.stdout.isatty() and not as_json
    if alive:
        print("\033[2J", end="")
    while found:
        text = json.dumps(found) if as_json else table(found)
        if alive:  # line over line, or a terminal flickers
            text = "\033[H" + "".join(f"{line}\033[K\n" for line in text.splitlines()) + "\033[J"
        print(text, end="" if alive else "\n", flush=True)
        if not watch:
            return 0
        time.sleep(1)
        try:
            found = ask(path, "status")
        except Unanswered:
            raise
        except StartError:
            found = {}
    print("the server has ended")
    return 0 if watch else 3


def table(found: dict[str, Any]) -> str:
    """The answer to ``status`` for people."""
    what = "stopping" if found["stopping"] else "ready" if found["settled"] else "changing"
    what = "serving with old workers, the last reload failed" if found["held"] else what
    lines = [
        f"gkore {found['version']}, pid {found['pid']}: {what}, {counted(found['wanted'], 'worker')} wanted, "
        f"{counted(found['requests'], 'request')}, {counted(found['restarts'], 'restart')}, "
        f"{counted(found['generation'] - 1, 'reload')}",
        HEAD,
    ]
    lines += map(row, found["workers"])
    keymgr = found.get("keymgr")
    if keymgr:
        count = counted(keymgr["keys"], "key")
        what = f"pid {keymgr['pid']}, {count}" if keymgr["pid"] else "not running, see the log"
        lines += ["", f"key manager: {what}"]
    return "\n".join((*lines, *certificates(found["certificates"])))


def certificates(found: list[dict[str, Any]]) -> list[str]:
    """A table of the domains with TLS, when there are any."""
    if not found:
        return []
    width = max(len(one["domain"]) for one in found)
    lines = ["", f"{'DOMAIN':<{width}} {'CERTIFICATE UNTIL':<20} {'NEXT TRY':<20} LAST FAILURE"]
    for one in found:
        until = stamp(one["until"]) if one["until"] else "placeholder"
        trouble = f"{one['failure']} ({one['failures']} in a row)" if one["failures"] else "-"
        lines.append(f"{one['domain']:<{width}} {until:<20} {stamp(one['renewal']):<20} {trouble}")
    return lines


def stamp(moment: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment)) if moment else "-"


def row(one: dict[str, Any]) -> str:
    return (
        f"{one['slot']:>6} {one['pid']:>8} {one['state']:<9} {span(one['age']):>8} {one['rate']:>8} "
        f"{one['requests']:>11} {one['connections']:>6} {one['websockets']:>6} {one['tasks']:>6} "
        f"{megabytes(one['rss']):>8} {megabytes(one['private']):>8} {one['lag']:>5}ms {one['blocked']:>7}"
    )


def megabytes(count: int) -> str:
    return f"{count / 2**20:.1f}M" if count else "-"


def span(seconds: int) -> str:
    """A worker's age, in the two units that tell most."""
    for name, size, less, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if seconds >= size:
            return f"{seconds // size}{name}{seconds % size // part:02}{less}"
    return f"{seconds}s"


def is_command(word: str) -> bool:
    """Whether a word of the command line is a command and not the name of a script or package that is here."""
    return word in COMMANDS and not os.path.exists(word)
