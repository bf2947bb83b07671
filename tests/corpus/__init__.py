r"""Raw requests, good and evil, and what must become of each: the ``*.txt`` files in this directory.

    [name-of-the-sample]
    why: the clause that decides
    > GET /echo HTTP/1.1\r\n          what the client sends; a line's end is not sent, ``\r\n`` is
    > X-Long: \{a*300}\r\n            300 times ``a``
    => 200 refuse 400                 the statuses in order, and what then becomes of the connection
    body: hello                       what the server takes for the body, one line a request (optional)

Escapes: ``\r \n \t \0 \\ \xHH``, and ``\{TEXT*N}`` with escapes in TEXT. A blank at a line's end is written ``\x20``.

Endings: ``keep`` open for the next request; ``close`` because the client wanted it so; ``refuse N`` status N and closed
(``N|M`` where it depends on how much has come when the fault shows, ``refuse N routing`` when the parser has nothing
against it and what it hands on is refused); ``wait`` for bytes that never come.

The statuses are those of the site in ``tests/apps/corpus.conf``: ``/``, ``/echo`` (it answers with the body it got),
``/get`` (GET alone), everything under ``/p/``, and 404 for the rest. A 100 is listed where one must come: where the
body isn't in the sample.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

Ending = Literal["keep", "close", "refuse", "wait"]

_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|\{((?:[^}])*)\*(\d+)\}|(.))", re.DOTALL)
_SINGLE = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}
_OUTCOME = re.compile(r"((?:\d{3} )*)(keep|close|wait|refuse ([\d|]+)( routing)?)")


@dataclass
class Sample:
    """One conversation: what the client sends and what must come of it."""

    theme: str
    name: str
    why: str = ""
    data: bytes = b""
    statuses: list[int] = field(default_factory=list)
    """What is answered, refusals and 100 excluded."""
    ending: Ending = "keep"
    refusals: list[int] = field(default_factory=list)
    routing: bool = False
    continues: bool = False
    bodies: list[bytes] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.theme}/{self.name}"


def unescape(text: str) -> bytes:
    """The bytes of one line of a sample. KeyError for an escape that nobody defined."""

    def decode(found: re.Match[bytes]) -> bytes:
        octet, repeated, times, single = found.groups()
        if octet is not None:
            return bytes([int(octet, 16)])
        if repeated is not None:
            return _ESCAPE.sub(decode, repeated) * int(times)
        return _SINGLE[single]

    return _ESCAPE.sub(decode, text.encode())


def read_samples(text: str, theme: str) -> Iterator[Sample]:
    """The samples of one file; AssertionError for a line that is none of the above."""
    sample = None
    for number, line in enumerate(text.splitlines(), 1):
        kind, _, rest = line.partition(" ")
        if kind.startswith("[") and line.endswith("]"):
            if sample:
                yield sample
            sample = Sample(theme, line[1:-1])
        elif kind and not kind.startswith("#"):
            assert sample is not None, f"{theme}:{number}: no sample begun"
            _read_line(sample, kind, rest, f"{theme}:{number}: {line}")
    if sample:
        yield sample


def _read_line(sample: Sample, kind: str, rest: str, place: str) -> None:
    if kind == ">":
        sample.data += unescape(rest)
    elif kind == "why:":
        sample.why = rest
    elif kind == "body:":
        sample.bodies.append(unescape(rest))
    else:
        outcome = _OUTCOME.fullmatch(rest)
        assert kind == "=>", place
        assert outcome is not None, place
        statuses = [int(status) for status in outcome[1].split()]
        sample.continues = 100 in statuses
        sample.statuses = [status for status in statuses if status != 100]
        sample.ending = cast(Ending, outcome[2].partition(" ")[0])
        sample.refusals = [int(status) for status in (outcome[3] or "").split("|") if status]
        sample.routing = bool(outcome[4])


def all_samples() -> list[Sample]:
    """Every sample of every file."""
    files = sorted(Path(__file__).parent.glob("*.txt"))
    return [sample for file in files for sample in read_samples(file.read_text(), file.stem)]
