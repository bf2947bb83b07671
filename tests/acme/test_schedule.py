"""When a CA is asked: early enough for a certificate, and never as often as its limits."""

from __future__ import annotations

import pytest

from gkore.acme.refusal import Refusal
from gkore.acme.schedule import DAY, HOUR, pause, renewal, resumed

NOW = 1_800_000_000.0


def test_renewal_is_at_two_thirds_of_the_lifetime_or_a_little_before() -> None:
    times = {renewal(NOW, NOW + 90 * DAY, f"chain {number}") - NOW for number in range(50)}
    assert len(times) == 50
    assert 57 * DAY <= min(times) < max(times) <= 60 * DAY


def test_renewal_of_one_certificate_stays_where_it_is() -> None:
    assert renewal(NOW, NOW + DAY, "chain") == renewal(NOW, NOW + DAY, "chain")


def test_refusals_are_answered_ever_more_slowly() -> None:
    waits = [pause(count, "connection", "", NOW) for count in (1, 2, 3, 4, 5, 6, 7, 1000)]
    assert waits[:4] == [60, 240, 960, 3840]
    assert waits[-2:] == [DAY / 2] * 2


def test_let_s_encrypt_never_sees_five_failures_within_an_hour() -> None:
    moments = [0.0]
    for count in range(1, 30):
        moments.append(moments[-1] + pause(count, "connection", "", NOW))
    assert all(fifth - first > HOUR for first, fifth in zip(moments, moments[4:], strict=False))


def test_a_ca_that_can_not_be_reached_is_asked_again_soon() -> None:
    assert [pause(count, "unreachable", "", NOW) for count in (1, 2, 3, 500)] == [2, 4, 8, 600]


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("too many certificates", HOUR),
        ("too many requests, retry after 2027-01-15 12:00:00 UTC: see there", 4 * HOUR),
        ("retry after 2020-01-01 00:00:00 UTC", HOUR),
    ],
)
def test_a_limit_is_kept_as_long_as_the_ca_says(text: str, wait: float) -> None:
    assert pause(1, "rateLimited", text, NOW) == wait  # NOW is 2027-01-15 08:00:00


def test_a_restart_tries_at_once_but_not_more_than_four_times_an_hour() -> None:
    due = NOW + DAY / 2
    assert resumed(due, "connection", [NOW - 10, NOW - 20, NOW - 30], NOW) == NOW
    tries = [NOW - 40, NOW - 10, NOW - 20, NOW - 30]
    assert resumed(due, "connection", tries, NOW) == NOW - 40 + HOUR
    assert resumed(NOW + 5, "connection", tries, NOW) == NOW + 5
    assert resumed(due, "connection", [NOW - 2 * HOUR] * 9, NOW) == NOW
    assert resumed(due, "rateLimited", [], NOW) == due


def test_a_refusal_says_what_to_do() -> None:
    assert "port 443 of" not in str(Refusal("other", "why", "one.test"))
    said = str(Refusal("connection", "timed out", "one.test"))
    assert said.startswith("connection: timed out (the CA must reach one.test on port 443")
    assert not Refusal("unreachable", "", "x").counts
    assert Refusal("caa", "", "x").counts
