"""``gkore reload``, ``stop``, ``status`` and ``dump``: the other end of a running server's control socket.

The server is found through its conf (``-c FILE``, of which only ``control`` and ``pidfile`` are looked at: nothing is
imported), through ``--control PATH``, or through ./kore.control, where a server started here has its socket.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import Any

from gkore.conf.directives import SETTING_ROWS
from gkore.errors import StartError, UsageError
from gkore.master.control import beside

COMMANDS = ("reload", "stop", "status", "dump")
HEAD = (
    f"{'WORKER':>6} {'PID':>8} {'STATE':<9} {'AGE':>8} {'REQ/S':>8} {'REQUESTS':>11} "
    f"{'CONNS':>6} {'WS':>6} {'TASKS':>6} {'RSS':>8} {'LAG':>7} {'BLOCKED':>7}"
)


def path_of(conf: str, control: str) -> str:
    """Where the server's control socket is. StartError when the conf can't be read."""
    if control:
        return control
    found = {"control": "", "pidfile": SETTING_ROWS["pidfile"].initial()}
    if conf:
        try:
            with open(conf, encoding="utf-8", errors="replace") as file:
                lines = [line.split() for line in file]
        except OSError as failure:
            raise StartError(f"{conf}: {failure.strerror}") from None
        found.update({words[0]: words[1] for words in lines if len(words) > 1 and words[0] in found})
    return found["control"] or beside(found["pidfile"])


def ask(path: str, command: str) -> dict[str, Any]:
    """Send one command and wait for what comes of it; {} when the server ended. StartError when none is there."""
    with socket(AF_UNIX, SOCK_STREAM) as sock:
        try:
            sock.connect(path)
            sock.sendall(command.encode() + b"\n")
        except OSError as failure:
            raise StartError(f"no gkore answers at {path}: {failure.strerror} (--control PATH, or -c CONF)") from None
        try:
            with sock.makefile("r", encoding="utf-8") as answers:
                line = answers.readline()
        except ConnectionError:
            line = ""
    return json.loads(line) if line else {}


def perform(words: Sequence[str], conf: str, control: str, watch: bool, as_json: bool) -> int:
    """Do what ``gkore COMMAND`` asks for; the exit status."""
    command, *rest = words
    if rest:
        raise UsageError(f"gkore {command} takes no {rest[0]}")
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
        except StartError:
            found = {}
    print("the server has ended")
    return 0 if watch else 3


def table(found: dict[str, Any]) -> str:
    """The answer to ``status`` for people."""
    what = "stopping" if found["stopping"] else "ready" if found["settled"] else "changing"
    what = "serving with old workers, the last reload failed" if found["held"] else what
    lines = [
        f"gkore {found['version']}, pid {found['pid']}: {what}, {found['wanted']} workers wanted, "
        f"{found['requests']} requests, {found['restarts']} restarts, {found['generation'] - 1} reloads",
        HEAD,
    ]
    lines += map(row, found["workers"])
    keymgr = found.get("keymgr")
    if keymgr:
        count = f"{keymgr['keys']} key{'s' if keymgr['keys'] != 1 else ''}"
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
        f"{one['rss'] / 2**20:>7.1f}M {one['lag']:>5}ms {one['blocked']:>7}"
    )


def span(seconds: int) -> str:
    """A worker's age, in the two units that tell most."""
    for name, size, less, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if seconds >= size:
            return f"{seconds // size}{name}{seconds % size // part:02}{less}"
    return f"{seconds}s"


def is_command(word: str) -> bool:
    """Whether a word of the command line is a command and not the name of a script or package that is here."""
    return word in COMMANDS and not os.path.exists(word)
