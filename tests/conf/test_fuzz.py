"""No conf, however broken, makes the reader raise; every mistake has a place."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from reading import read

from gkore.conf.diagnostics import Mistake
from gkore.conf.directives import ROWS
from gkore.conf.words import Line, lines

# not include, python_import, load: what the machine's own files hold is no matter of the reader
NAMES = sorted(set(ROWS) - {"include", "python_import", "python_path"})
WORDS = st.one_of(
    st.sampled_from(
        ["{", "}", "#", "#x", "$HOME", "$", "get", "qs:get", "/", "^/(a", "*", "regex", "function", "yes", "default"]
    ),
    st.integers(-5, 70000).map(str),
    st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=12),
)
LINES = st.builds(
    lambda name, words: " ".join([name, *words]),
    st.sampled_from([*NAMES, "}", "}", "frob"]),
    st.lists(WORDS, max_size=4),
)


def placed(mistakes: list[Mistake]) -> bool:
    return all(one.place.file == "kore.conf" and one.place.line > 0 and one.place.column > 0 for one in mistakes)


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, max_size=25))
def test_directives_in_any_order_and_shape(text: list[str]) -> None:
    mistakes = read("\n".join(text))[1]
    assert placed(mistakes)
    assert all(one.render() for one in mistakes)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    mistakes = read(data)[1]
    assert placed(mistakes)
    for one in mistakes:
        one.render().encode("utf-8")


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("abc []^$().|*+?{}\\:-=<0129alpha"), max_size=30))
def test_any_expression_compiles_or_is_a_mistake_inside_it(expression: str) -> None:
    for one in read(f"validator v regex {expression}")[1]:
        start = len("validator v regex ")
        assert one.place.column in (1, *range(start, start + len(expression) + 2))


@settings(max_examples=200, deadline=None)
@given(st.from_regex(r"[\[\]^:abc.=&~|\\-]{0,12}", fullmatch=True))
def test_brackets_never_make_a_pattern_that_raises(expression: str) -> None:
    application, mistakes = read(f"validator v regex x{expression}")
    pattern = application.site.validators["v"].pattern
    assert (pattern is None) is bool(mistakes)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_every_word_stands_where_it_says(data: bytes) -> None:
    for line in lines(data, "kore.conf"):
        if isinstance(line, Line):
            for word in [line.name, *line.words()]:
                assert line.source[word.column - 1 : word.column - 1 + len(word.text)] == word.text
