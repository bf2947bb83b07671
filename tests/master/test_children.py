"""A worker's states, and what its exit status says."""

from __future__ import annotations

import signal
from itertools import product
from time import monotonic

import pytest

from gkore.master.children import TRANSITIONS, Child, Event, State, describe, reap
from gkore.master.relay import Line, pair
from gkore.master.seats import Seat, backoff, covers
from gkore.master.watchdog import Watchdog
from gkore.protocol.counters import Cell, Counters


@pytest.fixture
def child() -> Child:
    ours, theirs = pair()
    theirs.close()
    return Child(4711, 2, frozenset({2}), 1, 1, Line(ours, 2))


def test_the_table_is_whole() -> None:
    """Every event has a meaning in every state but the last, and every road ends there."""
    living = [state for state in State if state is not State.GONE]
    assert set(TRANSITIONS) == set(product(living, Event))
    assert {after for (_, event), after in TRANSITIONS.items() if event is Event.DIED} == {State.GONE}
    assert State.STARTING not in TRANSITIONS.values()


def test_a_worker_that_is_told_to_drain_never_becomes_ready_again(child: Child) -> None:
    assert child.advance(Event.DRAIN) is State.STARTING
    assert child.advance(Event.READY) is State.DRAINING
    assert child.state is State.DRAINING
    assert not child.serves


def test_nobody_dies_twice(child: Child) -> None:
    child.advance(Event.DIED)
    with pytest.raises(KeyError):
        child.advance(Event.DIED)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "left by itself"),
        (1 << 8, "ended with status 1 (kore.fatal, or an exception that nobody caught)"),
        (4 << 8, "ended with status 4 (its set-up failed)"),
        (5 << 8, "called kore.fatalx"),
        (77 << 8, "ended with status 77"),
        (signal.SIGKILL, "was killed by SIGKILL (out of memory?)"),
        (signal.SIGSEGV, "was killed by SIGSEGV"),
        (signal.SIGSEGV | 0x80, "was killed by SIGSEGV, core dumped"),
        (63, "was killed by signal 63"),
    ],
)
def test_exit_statuses_in_words(child: Child, status: int, text: str) -> None:
    assert describe(child, status) == text


def test_who_killed_it_is_not_guessed_when_it_was_us(child: Child) -> None:
    child.killed = "it sent garbage on the bus"
    assert describe(child, signal.SIGKILL) == "was killed: it sent garbage on the bus"


def test_a_child_that_somebody_else_reaped_is_gone() -> None:
    assert list(reap([1])) == [(1, 0)]  # init is no child of ours


def test_backoff_doubles_up_to_five_seconds() -> None:
    assert [round(backoff(n), 1) for n in (1, 2, 3, 4, 5, 6, 7, 8, 1000)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]


@pytest.mark.parametrize("mute", [frozenset(), frozenset({2}), frozenset({1, 5})])
@pytest.mark.parametrize("slots", [1, 3, 6])
def test_every_slot_is_covered_once(slots: int, mute: frozenset[int]) -> None:
    for wanted in range(1, slots + 1):
        if set(range(1, wanted + 1)) <= mute:
            continue
        shares = [covers(number, wanted, slots, mute) for number in range(1, wanted + 1)]
        assert sorted(slot for share in shares for slot in share) == list(range(1, slots + 1))
        for number, share in enumerate(shares, 1):
            assert (number in share) != (number in mute)


def test_five_crashes_are_free_and_old_ones_are_forgotten() -> None:
    seat = Seat()
    assert [seat.crashed(float(second)) for second in range(7)] == [0, 0, 0, 0, 0, 0.1, 0.2]
    assert seat.due == 6.2
    assert seat.crashed(100.0) == 0
    assert len(seat.crashes) == 1


@pytest.mark.parametrize(("ages", "stuck"), [([40, 50], True), ([40, 1], False), ([1, 1], False), ([], False)], ids=str)
def test_systemd_may_judge_when_no_worker_comes_round(ages: list[int], stuck: bool) -> None:
    """Then WATCHDOG=1 is withheld: 30 s, the default of worker_timeout."""
    counters, children = Counters(4), []
    for number, age in enumerate(ages):
        ours, theirs = pair()
        theirs.close()
        row = counters.take(number)
        counters.row(row)[Cell.BEAT] = int((monotonic() - age) * 1000)
        children.append(Child(4711, number, frozenset({number}), 1, row, Line(ours, number)))
        children[-1].advance(Event.READY)
    assert Watchdog(0, 30).stuck(children, counters) is stuck
    for child in children:
        child.advance(Event.DRAIN)  # whoever leaves is not asked
        child.line.close()
    assert not Watchdog(0, 30).stuck(children, counters)
