"""Frames of clients: each sample whole, byte by byte, in two pieces at every place, and with a tail."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from gkore.protocol.frames import BINARY, COMPRESS_MIN, TEXT, FrameReader, Message, encode, extent

MASK = b"\x11\xa2\x03\xf4"
CONT, CLOSE, PING_OP, PONG_OP = 0, 8, 9, 10
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10
HELLO = "Grüße, 世界 🐙"


def masked(op: int, payload: bytes = b"", fin: int = FIN, bits: int = 0, length: bytes = b"") -> bytes:
    """A client's frame; ``length`` stands for the encoded length when it is to be a particular one."""
    size = len(payload)
    if not length:
        length = bytes((size,)) if size < 126 else struct.pack("!BH", 126, size) if size < 65536 else b""
    length = length or struct.pack("!BQ", 127, size)
    body = bytes(byte ^ MASK[place % 4] for place, byte in enumerate(payload))
    return bytes((fin | bits | op, length[0] | 0x80)) + length[1:] + MASK + body


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    return masked(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def said(reader: FrameReader) -> int | None:
    """The code of the Close among what is to be sent; 1005 for an empty one."""
    for frame in reader.out:
        if frame[0] == FIN | CLOSE:
            return struct.unpack("!H", frame[2:4])[0] if frame[1] else 1005
    return None


def read(pieces: Iterable[bytes], **options: object) -> tuple[list[Message], FrameReader]:
    reader = FrameReader(**{"message_max": 200_000, "frame_max": 70_000, **options})  # type: ignore[arg-type]
    messages: list[Message] = []
    for piece in pieces:
        messages += reader.feed(piece)
    return messages, reader


def single(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


GOOD = {
    "empty text": (masked(TEXT), [(TEXT, "")]),
    "text": (masked(TEXT, HELLO.encode()), [(TEXT, HELLO)]),
    "binary": (masked(BINARY, b"\x00\xff\x80"), [(BINARY, b"\x00\xff\x80")]),
    "125 bytes": (masked(TEXT, b"a" * 125), [(TEXT, "a" * 125)]),
    "126 bytes": (masked(TEXT, b"a" * 126), [(TEXT, "a" * 126)]),
    "65535 bytes": (masked(BINARY, b"a" * 65535), [(BINARY, b"a" * 65535)]),
    "65536 bytes": (masked(BINARY, b"a" * 65536), [(BINARY, b"a" * 65536)]),
    "two frames": (masked(TEXT, b"one") + masked(BINARY, b"two"), [(TEXT, "one"), (BINARY, b"two")]),
    "fragments": (
        masked(TEXT, b"a", 0) + masked(CONT, b"b", 0) + masked(CONT, b"c") + masked(TEXT, b"d"),
        [(TEXT, "abc"), (TEXT, "d")],
    ),
    "empty fragments": (masked(BINARY, b"", 0) + masked(CONT, b"", 0) + masked(CONT), [(BINARY, b"")]),
    "a character in two fragments": (
        masked(TEXT, HELLO.encode()[:3], 0) + masked(CONT, HELLO.encode()[3:]),
        [(TEXT, HELLO)],
    ),
    "ping between fragments": (
        masked(TEXT, b"a", 0) + masked(PING_OP, b"?") + masked(CONT, b"b"),
        [(TEXT, "ab")],
    ),
    "pong that nobody asked for": (masked(PONG_OP, b"!") + masked(TEXT, b"a"), [(TEXT, "a")]),
    "a length that is longer than needed": (masked(TEXT, b"abc", length=b"\x7e\x00\x03"), [(TEXT, "abc")]),
}


@pytest.mark.parametrize("name", GOOD)
def test_messages_come_out_however_they_are_cut(name: str) -> None:
    data, expected = GOOD[name]
    assert read([data])[0] == expected
    cuts = range(len(data)) if len(data) < 1000 else (1, 2, 7, 13, 14, 15, 5000, len(data) - 1)
    for cut in cuts:
        assert read([data[:cut], data[cut:]])[0] == expected, cut
    tail = masked(TEXT, b"tail")
    assert read([data + tail[:5], tail[5:]])[0] == [*expected, (TEXT, "tail")]
    if len(data) < 1000:
        messages, reader = read(single(data + tail))
        assert messages == [*expected, (TEXT, "tail")]
        assert not reader.finished
        assert not reader.closing


def test_a_ping_is_answered_with_its_payload() -> None:
    _, reader = read([masked(PING_OP, b"are you there")])
    assert reader.out == [b"\x8a\x0dare you there"]


BAD = {
    "RSV1 without compression": (masked(TEXT, b"a", bits=RSV1), 1002),
    "RSV2": (masked(TEXT, b"a", bits=RSV2), 1002),
    "RSV3": (masked(PING_OP, b"a", bits=RSV3), 1002),
    **{f"opcode {op}": (masked(op, b"a"), 1002) for op in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "not masked": (b"\x81\x01a", 1002),
    "ping of 126 bytes": (masked(PING_OP, b"a" * 126), 1002),
    "ping in fragments": (masked(PING_OP, b"a", 0), 1002),
    "close in fragments": (masked(CLOSE, b"", 0), 1002),
    "continuation of nothing": (masked(CONT, b"a"), 1002),
    "continuation after an end": (masked(TEXT, b"a", 0) + masked(CONT, b"b") + masked(CONT, b"c"), 1002),
    "text within fragments": (masked(TEXT, b"a", 0) + masked(TEXT, b"b"), 1002),
    "binary within fragments": (masked(BINARY, b"a", 0) + masked(BINARY, b"b", 0), 1002),
    "ping of 2^63 bytes": (masked(PING_OP, b"", length=b"\x7f" + struct.pack("!Q", 2**63)), 1009),
    "fragment that is not masked": (masked(TEXT, b"a", 0) + b"\x80\x01a", 1002),
    "RSV1 in a fragment": (masked(TEXT, b"a", 0) + masked(CONT, b"a", bits=RSV1), 1002),
    "opcode 3 within fragments": (masked(TEXT, b"a", 0) + masked(3, b"a"), 1002),
    "continuation after a ping": (masked(PING_OP) + masked(CONT, b"a"), 1002),
    "close of one byte": (masked(CLOSE, b"\x03"), 1002),
    **{
        f"close code {code}": (close(code), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000)
    },
    "close reason not UTF-8": (close(1000, b"\xff"), 1007),
    "text not UTF-8": (masked(TEXT, b"caf\xe9"), 1007),
    "text cut within a character": (masked(TEXT, "é".encode()[:1]), 1007),
    "surrogate": (masked(TEXT, b"\xed\xa0\x80"), 1007),
    "overlong": (masked(TEXT, b"\xc0\xaf"), 1007),
    "beyond Unicode": (masked(TEXT, b"\xf4\x90\x80\x80"), 1007),
    "frame over the limit": (masked(BINARY, b"", length=b"\x7f" + struct.pack("!Q", 70_001)), 1009),
    "frame of 2^63 bytes": (masked(BINARY, b"", length=b"\x7f" + struct.pack("!Q", 2**63)), 1009),
    "message over the limit": (masked(TEXT, b"a" * 70_000, 0) + 2 * masked(CONT, b"a" * 70_000, 0), 1009),
}


@pytest.mark.parametrize("name", BAD)
def test_misuse_is_answered_with_the_right_code(name: str) -> None:
    data, code = BAD[name]
    ways = [[data], [data + masked(TEXT, b"tail")], [masked(TEXT, b"before") + data]]
    if len(data) < 1000:
        ways += [single(data), *([data[:cut], data[cut:]] for cut in range(len(data)))]
    for pieces in ways:
        messages, reader = read(pieces)
        assert said(reader) == code
        assert reader.finished
        assert (TEXT, "tail") not in messages
        assert reader.feed(masked(TEXT, b"more")) == []


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 4999])
def test_a_close_is_echoed(code: int) -> None:
    for pieces in ([close(code, b"bye")], single(close(code, b"bye"))):
        _, reader = read(pieces)
        assert reader.out == [struct.pack("!BBH", FIN | CLOSE, 5, code) + b"bye"]
        assert (reader.code, reader.reason, reader.finished) == (code, "bye", True)


def test_an_empty_close_is_echoed_empty() -> None:
    _, reader = read([close()])
    assert reader.out == [b"\x88\x00"]
    assert reader.code == 1005


def test_our_close_waits_for_theirs() -> None:
    reader = FrameReader(100, 100)
    reader.close(1001, "é" * 100)
    assert said(reader) == 1001
    assert len(reader.out[0]) <= 127
    assert not reader.finished
    reader.out.clear()
    reader.close(1000)
    assert reader.out == []
    reader.feed(close(1001))
    assert reader.finished
    assert reader.out == []


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000])
def test_codes_that_may_not_be_sent_are_refused(code: int) -> None:
    with pytest.raises(ValueError, match="no close code"):
        FrameReader(100, 100).close(code)


def test_utf8_is_judged_before_the_message_ends() -> None:
    """RFC 6455 8.1; the fragment that breaks it ends the connection, not the last one."""
    _, reader = read([masked(TEXT, b"fine ", 0), masked(CONT, b"\xce\xba\xff", 0)])
    assert said(reader) == 1007


@pytest.mark.parametrize(
    "bad", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe4\xb8a", b"\xf8\x88\x80"]
)
def test_utf8_is_judged_before_its_frame_ends(bad: bytes) -> None:
    """RFC 6455 8.1; the piece that breaks it ends the connection, wherever the pieces are cut (Autobahn 6.4)."""
    for before in (b"", "fine κό".encode(), "κ".encode() * 20):
        for fin in (FIN, 0):
            frame = masked(TEXT, before + bad + b"and more" * 1000, fin)[:-8000]
            for cut in range(len(frame)):
                _, reader = read([frame[:cut], frame[cut:]])
                assert said(reader) == 1007, (before, fin, cut)
            assert said(read(single(frame))[1]) == 1007


def test_a_character_may_come_in_two_pieces() -> None:
    frame = masked(TEXT, HELLO.encode() + b"rest")
    for cut in range(7, len(frame) - 4):
        messages, reader = read([frame[:cut], frame[cut:-1]])
        assert (messages, reader.out) == ([], [])
        assert reader.feed(frame[-1:]) == [(TEXT, HELLO + "rest")]


def test_a_close_between_fragments_is_echoed() -> None:
    """RFC 6455 5.4 lets control frames come between fragments, and a Close is one (Autobahn 7.1.5)."""
    for pieces in ([frame := masked(TEXT, b"a", 0) + close(1000), masked(CONT, b"b")], single(frame)):
        messages, reader = read(pieces)
        assert (messages, said(reader), reader.code, reader.finished) == ([], 1000, 1000, True)


def test_a_message_in_tiny_pieces_costs_what_it_weighs() -> None:
    """Objects for each piece would let a client take 60 times what it sends."""
    reader = FrameReader(1_000_000, 1_000_000)
    frame = masked(BINARY, b"a" * 50_000, fin=0)
    tracemalloc.start()
    for place in range(0, len(frame) - 1, 2):
        reader.feed(frame[place : place + 2])
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken < 100_000


@given(st.lists(st.tuples(st.booleans(), st.text(max_size=300)), max_size=6), st.lists(st.integers(1, 40), max_size=60))
def test_any_messages_in_any_pieces(texts: list[tuple[bool, str]], sizes: list[int]) -> None:
    data = b""
    for fragmented, text in texts:
        raw = text.encode()
        half = len(raw) // 2
        data += masked(TEXT, raw[:half], 0) + masked(CONT, raw[half:]) if fragmented else masked(TEXT, raw)
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    messages, reader = read([piece for piece in [*pieces, data] if piece])
    assert messages == [(TEXT, text) for _, text in texts]
    assert reader.out == []


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_our_frames_are_whole_and_not_masked(size: int) -> None:
    frame = encode(BINARY, b"x" * size)
    assert frame[0] == FIN | BINARY
    assert extent(frame) == len(frame)
    assert frame.endswith(b"x" * size)
    assert len(frame) - size == (2 if size < 126 else 4 if size < 65536 else 10)


# Compression


def deflater() -> PerMessageDeflate:
    return PerMessageDeflate(True, True, 15, 12)


def packed(text: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-15)
    return (engine.compress(text) + engine.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_compressed_messages_are_read() -> None:
    data = masked(TEXT, packed(b"squeeze " * 50), bits=RSV1)
    half = packed(b"parts " * 50)
    parts = masked(BINARY, half[:9], 0, RSV1) + masked(CONT, half[9:])
    expected = [(TEXT, "squeeze " * 50), (TEXT, "plain"), (BINARY, b"parts " * 50)]
    whole = data + masked(TEXT, b"plain") + parts
    assert read([whole], deflate=deflater())[0] == expected
    assert read(single(whole), deflate=deflater())[0] == expected


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(TEXT, b"\xff\xff\xff", bits=RSV1), 1002),
        (masked(TEXT, packed(b"\xff\xfe"), bits=RSV1), 1007),
        (masked(BINARY, packed(bytes(5_000_000)), bits=RSV1), 1009),
        (masked(PING_OP, b"a", bits=RSV1), 1002),
        (masked(TEXT, b"a", 0) + masked(TEXT, packed(b"a"), bits=RSV1), 1002),
        (masked(TEXT, packed(b"ab")[:1], 0, RSV1) + masked(TEXT, b"a"), 1002),
        (masked(BINARY, packed(b"a")[:1], 0, RSV1) + masked(CONT, packed(b"a")[1:], bits=RSV1), 1002),
    ],
    ids=[
        "garbage",
        "text not UTF-8",
        "bomb",
        "compressed ping",
        "compressed within fragments",
        "within compressed fragments",
        "RSV1 in a continuation",
    ],
)
def test_compressed_misuse(data: bytes, code: int) -> None:
    for pieces in ([data], single(data)):
        _, reader = read(pieces, deflate=deflater())
        assert said(reader) == code


def test_what_we_compress_others_can_read() -> None:
    text = b"the same words again and again, " * 20
    frame = encode(TEXT, text, window=12)
    assert frame[0] == FIN | RSV1 | TEXT
    assert len(frame) < len(text) / 2
    start = 2 if frame[1] < 126 else 4
    theirs = PerMessageDeflate(True, True, 12, 15)
    assert bytes(theirs.decode(Frame(Opcode.TEXT, frame[start:], True, True)).data) == text


def test_small_messages_are_not_compressed() -> None:
    assert encode(TEXT, b"a" * (COMPRESS_MIN - 1), window=12)[0] == FIN | TEXT
