"""POSIX expressions mean on Python's re what they mean in Kore."""

from __future__ import annotations

import pytest

from gkore.conf.diagnostics import Wrong
from gkore.conf.patterns import compile_pattern


@pytest.mark.parametrize(
    ("expression", "text", "found"),
    [
        ("^[0-9]+$", "12", True),
        ("^[0-9]+$", "12\n", False),
        ("[0-9]", "abc1def", True),
        ("^[[:alpha:]_]+$", "ab_C", True),
        ("^[[:alpha:]_]+$", "ab1", False),
        ("^[^[:space:]]+$", "a b", False),
        ("^[[:digit:][:upper:]]+$", "A1", True),
        ("^[[:alpha:]]$", "é", False),
        (r"^\w+$", "é", False),
        ("^[]x]+$", "]x", True),
        ("^[^]x]+$", "a]", False),
        ("^[a[]+$", "[a", True),
        ("^[[.-.]x]+$", "-x", True),
        ("^[[=a=]]$", "a", True),
        ("^a.b$", "a\nb", True),
        (r"\<word\>", "a word here", True),
        (r"\<word\>", "swords", False),
        (r"^a\$b$", "a$b", True),
        ("^[$]$", "$", True),
        ("^[&&~~||]+$", "&~|", True),
        ("^(a|b)\\1$", "aa", True),
        ("^a{2,3}$", "aaa", True),
        ("[/]x", "/x", True),
    ],
)
def test_meaning(expression: str, text: str, found: bool) -> None:
    assert bool(compile_pattern(expression).search(text)) is found


def test_groups_that_don_t_capture() -> None:
    assert compile_pattern("^/(a|b(c))$", captures=False).groups == 0
    assert compile_pattern("^/[(](a)$", captures=False).search("/(a")
    assert compile_pattern(r"^/\((a)$", captures=False).search("/(a")
    assert compile_pattern("^/(a|b)$").groups == 1


@pytest.mark.parametrize(
    ("expression", "offset"),
    [("ab[c", 2), ("[[:alpha:]](", 11), ("a$(b", 2), ("*a", 0), ("a)", 1), ("[[:nix:]]", 1), ("\\", 0)],
)
def test_a_fault_is_placed_inside_the_expression(expression: str, offset: int) -> None:
    with pytest.raises(Wrong) as caught:
        compile_pattern(expression)
    assert caught.value.offset == offset


@pytest.mark.parametrize("expression", ["a{99999999999}", "(" * 5000 + ")" * 5000, "a{3,2}"])
def test_what_python_can_t_compile_is_said(expression: str) -> None:
    with pytest.raises(Wrong, match="regular expression"):
        compile_pattern(expression)


def test_no_warning_about_sets_of_sets(recwarn: pytest.WarningsRecorder) -> None:
    compile_pattern("[[a][+--]")
    assert not recwarn.list
