"""Websocket frames: bytes in, messages and answers out (RFC 6455, RFC 7692); no sockets, no clocks.

    chunk that is one plain, whole, masked text or binary frame   decoded here
    everything else                                               the engine: ``websockets``' ServerProtocol

The engine is made when the first frame comes that is not plain: most connections never need one. Plain frames leave no
trace in its state, so it need not see them; what it must see is every byte of the others. So a stream is split at the
boundaries of frames, and a frame goes to the engine whole or not at all: between two frames, with no message in
fragments and nothing said about closing, the short path may decide again.

The engine checks bits, opcodes, masking, lengths, close codes and the order of fragments, and answers pings and closes;
UTF-8 is checked here, fragment by fragment.
"""

from __future__ import annotations

import logging
import struct
import zlib
from codecs import IncrementalDecoder, getincrementaldecoder
from typing import TypeAlias

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # a wheel without compiled parts
    from websockets.utils import apply_mask

TEXT, BINARY = 1, 2
PING = b"\x89\x00"
COMPRESS_MIN = 128
"""Bytes below which compression costs more than it saves."""
VIEW_MIN = 8192
"""Bytes from which making a view costs less than a copy."""
REASON_MAX = 123
"""RFC 6455 5.5: a control frame carries 125 bytes, of which the code takes 2."""

Message: TypeAlias = tuple[int, str | bytes]

SMALL = {op: [bytes((0x80 | op, length)) for length in range(126)] for op in (TEXT, BINARY)}
"""The heads of frames with less than 126 bytes, by op and size."""
_Utf8 = getincrementaldecoder("utf-8")

_logger = logging.getLogger("gkore.websocket")
_logger.addHandler(logging.NullHandler())
_logger.propagate = False


def encode(op: int, data: bytes, window: int = 0) -> bytes:
    """One whole unmasked frame; with a ``window`` (bits, 9 to 15) a payload worth it is compressed (RFC 7692 7.2.1)."""
    size = len(data)
    if window and size >= COMPRESS_MIN:
        deflater = zlib.compressobj(wbits=-window, memLevel=5)
        data = (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
        return _head(0xC0 | op, len(data)) + data
    if size < 126:
        return SMALL[op][size] + data
    return _head(0x80 | op, size) + data


def _head(first: int, size: int) -> bytes:
    if size < 126:
        return bytes((first, size))
    if size < 65536:
        return struct.pack("!BBH", first, 126, size)
    return struct.pack("!BBQ", first, 127, size)


def extent(data: bytes | bytearray) -> int:
    """Bytes of the frame that ``data`` begins with, head included; 0 while its head is incomplete."""
    size = len(data)
    if size < 2:
        return 0
    second = data[1]
    length = second & 127
    start = 6 if second & 128 else 2
    if length > 125:
        width = 2 if length == 126 else 8
        if size < 2 + width:
            return 0
        length = int.from_bytes(data[2 : 2 + width])
        start += width
    return start + length if size >= start else 0


class FrameReader:
    """One client's frames. ``out`` is what must be sent, in order; when ``finished``, nothing follows it."""

    __slots__ = (
        "_decoder",
        "_deflate",
        "_engine",
        "_kept",
        "_left",
        "_limits",
        "_op",
        "_parts",
        "_plain_max",
        "_quiet",
        "code",
        "finished",
        "out",
        "reason",
    )

    def __init__(self, message_max: int, frame_max: int, deflate: PerMessageDeflate | None = None) -> None:
        self._limits = (message_max, frame_max)
        self._plain_max = min(message_max, frame_max) + 6
        """Bytes of a frame, with the shortest head, that is surely within the limits."""
        self._deflate = deflate
        self._engine: ServerProtocol | None = None
        self._kept: bytearray | None = None
        """The beginning of a frame whose rest has not come."""
        self._left = 0
        """Bytes of the present frame that the engine has not seen yet."""
        self._quiet = True
        """Nothing kept, no fragments, nothing closing: the next chunk may take the short path."""
        self._op = 0
        self._parts: list[str] | list[bytes] | None = None
        """The fragments of a message."""
        self._decoder: IncrementalDecoder | None = None
        self.out: list[bytes] = []
        self.finished = False
        self.code = 1006
        """Why it ended, as the client said or we; 1006 until somebody does (RFC 6455 7.1.5)."""
        self.reason = ""

    def feed(self, data: bytes) -> list[Message]:
        """Take what the socket gave; the messages that it completes."""
        # One small frame costs 1.0 us here and 6 in the engine.
        size = len(data)
        if self._quiet and size > 5:
            second = data[1]
            if second < 254:
                start = 6
                whole = second - 122  # 128 of the mask bit less 6 of the head
            elif second == 254:
                start = 8
                whole = (data[2] << 8) + data[3] + 8
            else:
                start = 14
                whole = int.from_bytes(data[2:10]) + 14
            first = data[0]
            if whole == size <= self._plain_max and (first == 0x82 or first == 0x81):
                body = data[start:] if size < VIEW_MIN else memoryview(data)[start:]
                payload = apply_mask(body, data[start - 4 : start])
                if first == 0x82:
                    return [(BINARY, payload)]
                try:
                    return [(TEXT, payload.decode())]
                except UnicodeDecodeError:
                    self._fail(1007, "text is not UTF-8")
                    return []
        return self._split(data)

    def _split(self, data: bytes) -> list[Message]:
        """Part a chunk at the boundaries of frames and give each to whom it belongs."""
        kept = self._kept
        if kept is None:
            kept = self._kept = bytearray(data)
        else:
            kept += data
        messages: list[Message] = []
        while kept and not self.finished:
            if self._left:
                piece = bytes(kept[: self._left])
                self._left -= len(piece)
                del kept[: len(piece)]
                self._consult(piece, messages)
                continue
            size = extent(kept)
            if not size:
                break
            if kept[0] not in (0x81, 0x82) or not self._may_be_plain(kept[1], size):
                self._left = size
            elif len(kept) >= size:
                if len(kept) == size:
                    frame, kept = kept, bytearray()
                    self._kept = None
                else:
                    frame = kept[:size]
                    del kept[:size]
                self._take_plain(frame, messages)
            else:
                break
        if self.finished or not kept:
            self._kept = None
        self._quiet = self._kept is None and not self._left and self._idle()
        return messages

    def _idle(self) -> bool:
        engine = self._engine
        return not self.finished and self._parts is None and (engine is None or engine.state is OPEN)

    def _may_be_plain(self, second: int, size: int) -> bool:
        return second >= 128 and size <= self._plain_max and self._idle()

    def _take_plain(self, frame: bytearray, messages: list[Message]) -> None:
        length = frame[1] & 127
        start = 6 if length < 126 else 8 if length == 126 else 14
        payload = apply_mask(memoryview(frame)[start:], frame[start - 4 : start])
        if frame[0] == 0x82:
            messages.append((BINARY, payload))
            return
        try:
            messages.append((TEXT, payload.decode()))
        except UnicodeDecodeError:
            self._fail(1007, "text is not UTF-8")

    # The engine

    def _awake(self) -> ServerProtocol:
        engine = self._engine
        if engine is None:
            engine = self._engine = ServerProtocol(state=OPEN, max_size=self._limits, logger=_logger)
            if self._deflate is not None:
                engine.extensions = [self._deflate]
        return engine

    def _consult(self, piece: bytes, messages: list[Message]) -> None:
        engine = self._awake()
        engine.receive_data(piece)
        for frame in engine.events_received():
            if isinstance(frame, Frame) and frame.opcode <= Opcode.BINARY:
                try:
                    self._fragment(frame, messages)
                except UnicodeDecodeError:
                    self._fail(1007, "text is not UTF-8")
                    return
        self._drain_engine()

    def _fragment(self, frame: Frame, messages: list[Message]) -> None:
        """One frame of a message that the engine let pass: a part of it or the whole."""
        if frame.opcode is not Opcode.CONT:
            self._op = int(frame.opcode)
            self._parts = []
            self._decoder = _Utf8() if frame.opcode is Opcode.TEXT else None
        parts = self._parts
        assert parts is not None
        if self._decoder is not None:
            parts.append(self._decoder.decode(bytes(frame.data), frame.fin))  # type: ignore[arg-type]
        else:
            parts.append(bytes(frame.data))  # type: ignore[arg-type]
        if frame.fin:
            joined: str | bytes = "".join(parts) if self._decoder is not None else b"".join(parts)  # type: ignore[arg-type]
            messages.append((self._op, joined))
            self._parts = self._decoder = None

    def _drain_engine(self) -> None:
        engine = self._engine
        assert engine is not None
        for data in engine.data_to_send():
            if data:
                self.out.append(data)
            else:
                self.finished = True  # the engine's word for: half-close, nothing comes from us any more
        close = engine.close_rcvd or engine.close_sent
        if close is not None:
            self.code, self.reason = int(close.code), close.reason
        if engine.state is not OPEN:
            self._quiet = False

    def _fail(self, code: int, reason: str) -> None:
        engine = self._awake()
        engine.fail(code, reason)
        self._drain_engine()

    def close(self, code: int, reason: str = "") -> None:
        """Begin the closing handshake; a second call does nothing. ValueError for a code that no frame may carry."""
        if not (1000 <= code <= 4999) or code in (1004, 1005, 1006, 1015) or 1015 < code < 3000:
            raise ValueError(f"{code} is no close code that may be sent (RFC 6455 7.4)")
        engine = self._awake()
        if engine.state is OPEN:
            engine.send_close(code, reason.encode()[:REASON_MAX].decode("utf-8", "ignore"))
            self._drain_engine()
        self._quiet = False

    @property
    def closing(self) -> bool:
        """A Close was sent or has come."""
        return self._engine is not None and self._engine.state is not OPEN
