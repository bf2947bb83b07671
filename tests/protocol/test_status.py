"""Reason phrases."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from gkore.protocol.status import REASONS, reason


@pytest.mark.parametrize("status", list(HTTPStatus))
def test_every_status_that_python_knows_has_a_phrase(status: HTTPStatus) -> None:
    assert status in REASONS


@pytest.mark.parametrize(
    ("code", "phrase"), [(200, "OK"), (308, "Permanent Redirect"), (429, "Too Many Requests"), (599, "Unknown")]
)
def test_reason(code: int, phrase: str) -> None:
    assert reason(code) == phrase


def test_phrases_are_printable_and_sorted() -> None:
    assert all(phrase.isascii() and phrase.isprintable() and phrase for phrase in REASONS.values())
    assert list(REASONS) == sorted(REASONS)
