"""The banner at a terminal, and nowhere else."""

from __future__ import annotations

import os
import pty

import pytest

from gkore import log
from gkore.master.banner import greet, lines

URLS = ["http://127.0.0.1:8888", "https://0.0.0.0:443", "http://[::]:80", "unix:/run/x"]


def test_it_says_where_how_many_and_how_to_stop() -> None:
    said = list(lines(URLS, 2, False, False))
    assert said[0].endswith(f"2 workers, pid {os.getpid()}")
    every = "(and every other address of this machine)"
    assert [line.strip() for line in said[1:-1]] == [
        "http://127.0.0.1:8888",
        f"https://localhost:443  {every}",
        f"http://localhost:80  {every}",
        "unix:/run/x",
    ]
    assert said[-1].strip() == f"Ctrl-C stops, kill -HUP {os.getpid()} reloads"
    assert "every change of a file" in list(lines(URLS, 1, True, False))[-1]


@pytest.mark.parametrize(("colour", "terminal"), [("", "xterm"), ("1", "xterm"), ("", "dumb")])
def test_colour_is_for_terminals_that_want_it(colour: str, terminal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", colour)
    monkeypatch.setenv("TERM", terminal)
    ours, theirs = pty.openpty()
    try:
        monkeypatch.setattr(log.log, "descriptor", theirs)
        greet(URLS, 1, False)
        said = ""
        while "reloads" not in said:  # a terminal may give it in pieces
            said += os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "http://127.0.0.1:8888" in said
    assert ("\033[" in said) is (not colour and terminal != "dumb")


def test_a_pipe_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    try:
        monkeypatch.setattr(log.log, "descriptor", writer)
        greet(URLS, 1, False)
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)
