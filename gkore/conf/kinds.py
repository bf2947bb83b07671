"""What an argument of a directive may be: each kind turns one word into a Python value or says what it expected.

A kind whose ``free`` is true takes the rest of the line as it stands, blanks included; one whose ``literal`` is true
never takes ``$WORD`` for an environment variable, because there it can be data; with both, ``#`` can be data too.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import pwd
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from gkore.conf.diagnostics import Wrong, nearest
from gkore.conf.patterns import EXPECTED, compile_pattern
from gkore.conf.site import METHODS, Rate

PERIODS = {"s": 1, "m": 60, "h": 3600}
DECIMAL = re.compile(r"[+-]?[0-9]+")
FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, slots=True)
class Kind:
    """How a word becomes a value: ``expected`` is for people, ``convert`` raises Wrong."""

    expected: str
    convert: Callable[[str], Any]
    free: bool = False
    literal: bool = False
    show: Callable[[Any], str] = str
    """A value back to the conf's own notation."""
    label: str = "value"
    """What a usage line calls it."""


def number(low: int, high: int | None, unit: str = "") -> Kind:
    """A decimal number of Kore's: sign allowed, the whole word, inside the range."""
    span = f"from {low} to {high}" if high is not None else f"of at least {low}"
    expected = f"a number {span}" + (f" ({unit})" if unit else "")

    def convert(text: str) -> int:
        if not DECIMAL.fullmatch(text):
            raise Wrong(f'"{text}" is not a number', expected=expected)
        if len(text) > 20 or int(text) < low or (high is not None and int(text) > high):
            raise Wrong(f"{text} is out of range", expected=expected)
        return int(text)

    return Kind(expected, convert, label="number")


def choice(*options: str) -> Kind:
    """One of a few words."""
    expected = " or ".join([", ".join(options[:-1]), options[-1]] if len(options) > 1 else options)

    def convert(text: str) -> str:
        if text not in options:
            raise Wrong(f'"{text}" is not known here', expected=expected, suggestion=nearest(text, options))
        return text

    return Kind(expected, convert, label="|".join(options))


def switch(yes: tuple[str, ...], no: tuple[str, ...]) -> Kind:
    """Two states; the first spelling of each is the one shown."""
    expected = f"{yes[0]} or {no[0]}"

    def convert(text: str) -> bool:
        if text not in yes + no:
            raise Wrong(f'"{text}" is neither {yes[0]} nor {no[0]}', expected=expected)
        return text in yes

    return Kind(expected, convert, show=lambda value: yes[0] if value else no[0], label=f"{yes[0]}|{no[0]}")


def matching(pattern: str, expected: str, most: int = 0) -> Kind:
    """A word of a certain shape, of at most ``most`` characters."""
    compiled = re.compile(pattern)

    def convert(text: str) -> str:
        if most and len(text) > most:
            raise Wrong(f"{len(text)} characters are too many", expected=f"{expected}, at most {most} characters")
        if not compiled.fullmatch(text):
            raise Wrong(f'"{text}" is not {expected}', expected=expected)
        return text

    return Kind(expected, convert)


def url_pattern(text: str) -> str | re.Pattern[str]:
    """A route's path: with a leading ``/`` it is compared, else it is a regular expression (Kore 4.0)."""
    return text if text.startswith("/") else compile_pattern(text)


def user(text: str) -> str:
    # whether it exists is asked at the end of the conf: with -r nobody needs it
    if not text or text.startswith("-"):
        raise Wrong(f'"{text}" is not the name of a user', expected="the name of a user")
    return text


def unknown_user(name: str) -> Wrong | None:
    """What is wrong with a user's name on this machine, if anything."""
    try:
        pwd.getpwnam(name)
    except (KeyError, ValueError):
        known = [entry.pw_name for entry in pwd.getpwall()]
        return Wrong(f'there is no user "{name}"', expected="a user of this machine", suggestion=nearest(name, known))
    return None


def readable_file(text: str) -> str:
    """A file that this process can read now."""
    if not os.path.isfile(text):
        folder = os.path.dirname(text) or "."
        beside = [os.path.join(folder, name) for name in os.listdir(folder)] if os.path.isdir(folder) else []
        raise Wrong(
            f"there is no file {text}",
            expected=f"a file (relative paths start at {os.getcwd()})",
            suggestion=nearest(os.path.join(folder, os.path.basename(text)), beside).removeprefix("./"),
        )
    if not os.access(text, os.R_OK):
        raise Wrong(f"{text} can't be read: permission denied", expected="a file that this user may read")
    return text


def writable_place(text: str) -> str:
    """A file that exists or can be made: its directory exists."""
    folder = os.path.dirname(text) or "."
    if text != "-" and not os.path.isdir(folder):
        raise Wrong(f"there is no directory {folder} for it", expected="a file in a directory that exists, or -")
    if os.path.isdir(text):
        raise Wrong(f"{text} is a directory", expected="a file")
    return text


def port(text: str) -> str:
    if DECIMAL.fullmatch(text) and not (len(text) <= 6 and 0 <= int(text) <= 65535):
        raise Wrong(f"there is no port {text}", expected=PORT.expected)
    if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z_+.-]*", text):
        raise Wrong(f'"{text}" is not a port', expected=PORT.expected)
    return text


def host(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    shape = r"[0-9]+(\.[0-9]+)+|[^.]*:.*"  # looks like an address: must be one; else it is a name for the resolver
    if re.fullmatch(shape, bare):
        try:
            ipaddress.ip_address(bare.partition("%")[0])
        except ValueError:
            raise Wrong(f'"{text}" is not an IP address', expected=HOST.expected) from None
    elif not re.fullmatch(r"[A-Za-z0-9_.-]+", bare):
        raise Wrong(f'"{text}" is not a host', expected=HOST.expected)
    return bare


def address(text: str) -> str:
    """``ADDR:PORT``, ``:PORT``, ``[v6]:PORT`` or ``unix:/path``."""
    split_address(text)
    return text


def split_address(text: str) -> tuple[str, str, str]:
    """Host, port and UNIX path of ``ADDR:PORT``, ``:PORT``, ``PORT``, ``unix:/path``. Wrong when neither."""
    if text.startswith("unix:"):
        if not text[5:]:
            raise Wrong("unix: lacks its path", expected=ADDRESS.expected)
        return "", "", text[5:]
    before, colon, after = text.rpartition(":")
    if before.startswith("[") != before.endswith("]") or (":" in before and not before.startswith("[")):
        raise Wrong(f'"{text}" is not an address', expected=ADDRESS.expected)
    if not colon and not after.isdecimal():
        raise Wrong(f'"{text}" lacks a port', expected=ADDRESS.expected)
    return host(before) if before else "0.0.0.0", port(after), ""


def network(text: str) -> str:
    try:
        if text != "unix":
            ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Wrong(f'"{text}" is not a network', expected=NETWORK.expected) from None
    return text


def method(text: str) -> str:
    name = text.lower()
    if name not in METHODS:
        raise Wrong(f"unknown HTTP method: {text}", expected=METHOD.expected, suggestion=nearest(name, METHODS))
    return name


def sourced_method(text: str) -> tuple[str, bool]:
    """``get``, ``post``, ``qs:post``: the method, and whether the query string is meant (``get`` implies it)."""
    prefix, colon, name = text.rpartition(":")
    if colon and prefix != "qs":
        raise Wrong(f'unknown prefix "{prefix}"', expected="a method, or qs:METHOD for the query string")
    name = method(name)
    return name, bool(colon) or name == "get"


def rate(text: str) -> Rate:
    """``N/s``, ``N/m`` or ``N/h``."""
    found = re.fullmatch(r"([0-9]{1,9})/(s|m|h)", text)
    if not found or not int(found[1]):
        raise Wrong(f'"{text}" is not a rate', expected=RATE.expected)
    return Rate(int(found[1]), PERIODS[found[2]])


def show_rate(rate: Rate) -> str:
    return f"{rate.most}/{next(letter for letter, seconds in PERIODS.items() if seconds == rate.seconds)}"


def tracing(text: str) -> bool:
    """yes only where spans can be made."""
    wanted: bool = YES_NO.convert(text)
    if wanted:
        try:
            import_module("opentelemetry.propagate")  # here, because a worker may be in a chroot
        except ImportError as failure:
            raise Wrong(f"OpenTelemetry is missing: {failure}", expected="no, or `pip install gkore[otel]`") from None
    return wanted


YES_NO = switch(("yes", "on", "true", "True", "1"), ("no", "off", "false", "False", "0"))
OTEL = replace(YES_NO, convert=tracing)
BIT = switch(("1", "yes", "True"), ("0", "no", "False"))


def carrier(text: str) -> str:
    """What ``websocket_bus`` names, as far as can be told without connecting to it."""
    word, mark, rest = text.partition("://") if "://" in text else text.partition(" ")
    if word == "postgres" and mark == " " and rest.strip():
        return text
    if word not in SCHEMES or mark != "://":
        near = nearest(word, [*SCHEMES, "postgres"])
        example = f"postgres {rest.strip() or 'DATABASE'}" if near == "postgres" else f"{near}://{rest or 'localhost'}"
        message = f'"{text}" carries no broadcasts'
        raise Wrong(message, expected=CARRIER.expected, suggestion=example if near else "")
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018  it raises
    except ValueError as failure:
        raise Wrong(f"{text}: {failure}", expected=CARRIER.expected) from None
    if not (parts.path if word == "unix" else parts.hostname):
        raise Wrong(f"{text} names no {'socket' if word == 'unix' else 'host'}", expected=CARRIER.expected)
    if importlib.util.find_spec("redis") is None:
        raise Wrong("redis-py is not installed", expected='pip install "gkore[redis]"')
    return text


SCHEMES = ("redis", "rediss", "unix")
CARRIER = Kind("redis://HOST[:PORT], rediss://HOST, unix:///SOCKET or postgres DATABASE", carrier, True, True)
TEXT = Kind("text", str, free=True, literal=True, label="text")
REST = Kind("the rest of the line", str, free=True, literal=True)
WORD = matching(r"\S+", "a word")
HTTPS = matching(r"https://[^\s/]+(/\S*)?", "a URL that begins with https://")
NAME = matching(r"[^\s{}#]+", "a name", 253)
FUNCTION_NAME = matching(FUNCTION.pattern, "the name of a Python function, or object.method")
DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
WSGI_NAME = matching(f"{DOTTED}:{DOTTED}", "MODULE:APPLICATION")
REGEX = Kind(EXPECTED, compile_pattern, literal=True)
PLAIN_REGEX = Kind(EXPECTED, lambda text: compile_pattern(text, captures=False), literal=True)
DECLARED_PATH = Kind("the path of a route declared in this domain", str, literal=True)
EXACT_PATH = matching(r"/\S*", "a path that begins with /")
ROUTE_PATH = Kind("a path that begins with /, or a regular expression", url_pattern, literal=True)
FOLDER_URL = matching(r"/(\S*/)?", "a path that begins and ends with /")
TARGET = Kind("where to redirect, with $1..$14 and $qs", str, literal=True)
USER = Kind("the name of a user", user)
FILE = Kind("a file that can be read", readable_file, free=True, label="path")
FILE_WORD = Kind("a file that can be read", readable_file)
PATH = Kind("a path", str, free=True, label="path")
PATH_WORD = Kind("a path", str)
LOG_PATH = Kind("a file to append to, or -", writable_place, free=True, label="path")
PORT = Kind("a port from 0 to 65535 or a service's name", port)
HOST = Kind("an IPv4 or IPv6 address, or a host name", host)
ADDRESS = Kind("ADDR:PORT, :PORT, [::1]:PORT or unix:/path", address)
NETWORK = Kind("a network such as 10.0.0.0/8 or fd00::/8, or unix", network)
METHOD = Kind("one of " + ", ".join(METHODS), method)
SOURCED_METHOD = Kind("a method, or qs:METHOD for the query string", sourced_method)
RATE = Kind("a rate such as 10/s, 100/m or 1000/h", rate, show=show_rate)
