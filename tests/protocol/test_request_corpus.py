"""The corpus of raw requests, through the parser: whole, byte by byte, with a tail."""

from __future__ import annotations

import pytest
from corpus import Sample, all_samples

from gkore.errors import ProtocolError
from gkore.protocol.head import Head
from gkore.protocol.request import Limits, RequestParser

SAMPLES = all_samples()
TAIL = b"GET /tail HTTP/1.1\r\nHost: tail\r\n\r\n"


def read(data: bytes, step: int = 0) -> tuple[RequestParser, list[Head], int]:
    """What the parser makes of ``data``: itself, the whole requests, the status of the refusal or 0."""
    parser = RequestParser(Limits(), Head)
    try:
        for start in range(0, len(data), step or len(data) or 1):
            parser.feed(data[start : start + (step or len(data))])
    except ProtocolError as refusal:
        return parser, parser.complete, refusal.status
    return parser, parser.complete, 0


def ends_a_head(sample: Sample) -> bool:
    """Whether a tail would stand behind it and not inside."""
    return sample.ending != "wait" and not sample.routing and b"\r\n\r\n" in sample.data


def check(sample: Sample, parser: RequestParser, heads: list[Head], refusal: int) -> None:
    wanted = len(sample.statuses) + sample.routing
    closing = [number for number, head in enumerate(heads, 1) if not head.keep_alive]
    if sample.ending == "close":
        # Whoever serves the connection stops at the first request that closes it.
        assert closing[:1] == [wanted]
    else:
        assert (len(heads), closing) == (wanted, [])
        assert refusal in (sample.refusals if sample.refusals and not sample.routing else [0])
    if sample.ending == "wait" and sample.data.strip():
        assert not parser.idle
    if sample.ending == "keep":
        assert parser.idle
    if sample.continues:
        assert parser.head is not None
        assert parser.head.expects_continue
    if sample.bodies:
        assert [head.content for head in heads] == sample.bodies


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_whole(sample: Sample) -> None:
    check(sample, *read(sample.data))


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_byte_by_byte(sample: Sample) -> None:
    check(sample, *read(sample.data, 1))


@pytest.mark.parametrize("sample", [sample for sample in SAMPLES if ends_a_head(sample)], ids=str)
def test_with_a_tail(sample: Sample) -> None:
    _, heads, refusal = read(sample.data + TAIL)
    served = heads[: len(sample.statuses)]
    if sample.ending == "keep":
        assert refusal == 0
        assert [head.line.target for head in heads[len(served) :]] == [b"/tail"]
    elif sample.ending == "refuse":
        assert len(heads) == len(sample.statuses)
        assert refusal in sample.refusals
    if sample.bodies:
        assert [head.content for head in served] == sample.bodies


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_twice_gives_the_same(sample: Sample) -> None:
    """What the parser remembers of heads that it has seen changes nothing."""
    for _ in range(2):
        check(sample, *read(sample.data))


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(SAMPLES) >= 160
    assert len({str(sample) for sample in SAMPLES}) == len(SAMPLES)
    assert all(sample.why and (sample.data or sample.name == "nothing") for sample in SAMPLES)
