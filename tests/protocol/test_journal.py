"""The journal: what a worker that is gone did not write is found by whoever has the descriptor."""

from __future__ import annotations

import os

import pytest

from gkore.protocol.journal import PAGE, Journal, blank


def test_what_was_not_written_is_found() -> None:
    journal = Journal(["a.log", "b.log", "c.log"])
    first, second = journal.page("a.log"), journal.page("b.log")
    first.write(b"one\n")
    first.write(b"two\n")
    second.write(b"three\nfour\nfi")  # its writer died in the middle of a copy
    assert list(journal.unwritten()) == [("a.log", b"one\ntwo\n"), ("b.log", b"three\nfour\n")]
    journal.close()


def test_what_was_written_is_not_found_again() -> None:
    journal = Journal(["a.log"])
    page = journal.page("a.log")
    page.write(b"a long line that is written\n" * 100)
    blank(page)
    assert list(journal.unwritten()) == []
    page.write(b"short\n")
    assert list(journal.unwritten()) == [("a.log", b"short\n")]
    journal.close()


def test_a_full_page() -> None:
    journal = Journal(["a.log", "b.log"])
    page = journal.page("a.log")
    page.write(b"x" * (PAGE - 1) + b"\n")
    with pytest.raises(ValueError, match="out of range"):
        page.write(b"y")
    assert [len(lines) for _, lines in journal.unwritten()] == [PAGE]
    journal.close()


def test_the_next_program_of_the_master_finds_it() -> None:
    journal = Journal(["a.log"])
    journal.page("a.log").write(b"one\n")
    entry = journal.bequeath()
    os.set_inheritable(entry["descriptor"], True)
    heir = Journal.inherit(entry)
    assert list(heir.unwritten()) == [("a.log", b"one\n")]
    assert not os.get_inheritable(heir.descriptor)
    heir.close()


def test_a_worker_cannot_cut_its_journal_off() -> None:
    journal = Journal(["a.log", "b.log"])
    journal.page("b.log").write(b"one\n")
    with pytest.raises(PermissionError):
        os.truncate(journal.descriptor, PAGE)
    assert list(journal.unwritten()) == [("b.log", b"one\n")]
    journal.close()
