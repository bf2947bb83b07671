"""The manual is THE TABLE, read aloud."""

from __future__ import annotations

from pathlib import Path

import pytest

from gkore.conf import manual
from gkore.conf.directives import ROWS, TABLE
from gkore.errors import UsageError

ROOT = Path(__file__).parents[2]


def test_the_page_of_directives_is_current() -> None:
    page = (ROOT / "docs" / "directives.md").read_text()
    assert page == manual.markdown(), "run: python -m gkore.conf.manual > docs/directives.md"


def test_the_page_names_every_directive() -> None:
    page = manual.markdown()
    assert [row.name for row in TABLE if f"`{row.name}" not in page] == []


@pytest.mark.parametrize("name", sorted(ROWS))
def test_help_of_a_directive(name: str) -> None:
    text = manual.help_text(name)
    assert all(row.usage in text and row.doc in text for row in ROWS[name])


def test_help_of_nothing_says_the_nearest() -> None:
    with pytest.raises(UsageError, match='did you mean "workers"'):
        manual.help_text("worker")


def test_the_example_conf_is_current_and_all_comment() -> None:
    text = (ROOT / "etc" / "example.conf").read_text()
    assert text == manual.example(), "run: python -m gkore.conf.manual example > etc/example.conf"
    assert all(not line or line.startswith("#") for line in text.splitlines())
