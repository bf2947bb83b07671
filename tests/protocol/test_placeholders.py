"""``$1``: where PostgreSQL sees a parameter. That it sees the same is tested against a real one in test_database.py."""

from __future__ import annotations

import pytest

from gkore.protocol.placeholders import fill, is_copy, split


@pytest.mark.parametrize(
    ("sql", "numbers"),
    [
        ("select $1", (1,)),
        ("select $2,$1, $12::text", (2, 1, 12)),
        ("select '$1', \"$1\", $1", (1,)),
        ("select 'it''s $1' || $1", (1,)),
        ("select 'back\\', $1", (1,)),
        (r"select E'back\'$1', $1", (1,)),
        (r"select e'\\', $1", (1,)),
        ("select E'a'\n  'b\\' $1', $2", (2,)),
        ("select xe'a\\', $1", (1,)),
        ("select U&'d\\0061t' , $1", (1,)),
        ("select $$ $1 $$, $1", (1,)),
        ("select $a$ $1 $$ $b$ $a$, $1", (1,)),
        ("select a$1, $1", (1,)),
        ("select a$b$1, $1", (1,)),
        ("select $1 -- $2\n, $3", (1, 3)),
        ("select 3 - $1", (1,)),
        ("select 4 / $1", (1,)),
        ("select /* $1 /* $1 */ $1 */ $2", (2,)),
        ("select 1$1", (1,)),
        ("select 'open $1", ()),
        ('select "open $1', ()),
        ("select $x$open $1", ()),
        ("select /* open $1", ()),
        ("select $ 1, $", ()),
        ("select é$1, $1", (1,)),
        ("", ()),
    ],
)
def test_where_parameters_are(sql: str, numbers: tuple[int, ...]) -> None:
    texts, found = split(sql)
    assert found == numbers
    assert len(texts) == len(numbers) + 1
    rebuilt = texts[0] + "".join(f"${number}{text}" for number, text in zip(found, texts[1:], strict=True))
    assert rebuilt == sql


def test_literals_stand_alone() -> None:
    assert fill("select $1$2 where $2", [b"'a'", b"'b'"]) == b"select ('a')('b') where ('b')"


@pytest.mark.parametrize(
    ("sql", "count", "text"),
    [
        ("select $2", 1, r"there is no parameter \$2"),
        ("select $0", 1, r"there is no parameter \$0"),
        ("select $1", 2, "2 parameters were given, but the query requires 1"),
        ("select 1", 1, "1 parameters were given, but the query requires 0"),
    ],
)
def test_counts_that_do_not_fit(sql: str, count: int, text: str) -> None:
    with pytest.raises(LookupError, match=text):
        fill(sql, [b"'x'"] * count)


@pytest.mark.parametrize(
    ("sql", "copy"),
    [
        ("copy t from stdin", True),
        ("  COPY (select 1)\nTO STDOUT csv", True),
        ("copy t from '/tmp/file'", False),
        ("select 'copy t from stdin'", False),
    ],
)
def test_copy(sql: str, copy: bool) -> None:
    assert is_copy(sql) is copy
