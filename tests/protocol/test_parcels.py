"""Parcels: whole, in pieces, with pieces missing."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkore.protocol.parcels import PIECE, Gaps, Joiner, Parcel, cut, pack, unpack

A, B = b"sender A", b"sender B"


def parcel(sender: bytes, number: int, payload: bytes = b"x") -> Parcel:
    return Parcel(b"the host", sender, number, 1_700_000_000_000, payload)


@given(st.binary(max_size=3 * PIECE))
def test_pieces_make_the_parcel_again(payload: bytes) -> None:
    packed = pack(parcel(A, 7, payload))
    pieces = list(cut(packed))
    assert all(len(piece) < 8000 for piece in pieces)
    joiner = Joiner()
    joined = [joiner.add(piece) for piece in pieces]
    assert joined[:-1] == [None] * (len(pieces) - 1)
    assert unpack(joined[-1] or b"") == parcel(A, 7, payload)


def test_two_senders_at_once() -> None:
    one, two = (list(cut(pack(parcel(sender, 1, os.urandom(20_000))))) for sender in (A, B))
    joiner = Joiner()
    joined = [joiner.add(piece) for pair in zip(one, two, strict=True) for piece in pair]
    assert [unpack(found).sender for found in joined if found] == [A, B]


@pytest.mark.parametrize("missing", [0, 1, 2, 3])
def test_a_lost_piece_costs_one_parcel(missing: int) -> None:
    pieces = list(cut(pack(parcel(A, 1, bytes(20_000)))))
    assert len(pieces) == 4
    del pieces[missing]
    joiner = Joiner()
    assert [joiner.add(piece) for piece in pieces] == [None] * 3
    whole = list(cut(pack(parcel(A, 2, bytes(20_000)))))
    assert [joiner.add(piece) for piece in whole][-1] == pack(parcel(A, 2, bytes(20_000)))


@pytest.mark.parametrize("text", ["", "a.b.c", "a.1.0.x.AAAA", "a.1.0.1.not base64!"])
def test_what_is_no_piece_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Joiner().add(text)
    with pytest.raises(ValueError):
        unpack(b"short")


def test_gaps_are_counted_by_sender() -> None:
    gaps = Gaps()
    numbers = [(A, 5, 0), (A, 6, 0), (B, 1, 0), (A, 9, 2), (B, 2, 0), (A, 10, 0), (B, 10, 7), (A, 3, 0)]
    assert [gaps.missed(parcel(sender, number)) for sender, number, _ in numbers] == [lost for _, _, lost in numbers]
