"""Websocket frames: bytes in, messages and answers out (RFC 6455, RFC 7692); no sockets, no clocks.

    chunk that is one whole, plain text or binary frame   decoded on the short path of ``feed``
    any other plain frame of data                         decoded here, piece by piece as it comes
    everything else                                       the engine: ``websockets``' ServerProtocol

Plain is what is masked, without reserved bits, within the limits and in its place. The engine is made when the first
frame comes that is not: most connections never need one. A frame goes to the engine whole or not at all, and so does a
compressed message; of plain ones it sees nothing, so the order of their fragments is checked here.

The engine checks bits, opcodes, masking, lengths and close codes, inflates, and answers pings and closes; UTF-8 is
checked here, in each piece as it comes (RFC 6455 8.1; of a compressed message in each fragment).
"""

from __future__ import annotations

import logging
import struct
import zlib
from codecs import utf_8_decode
from typing import Final, TypeAlias

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # a wheel without compiled parts
    from websockets.utils import apply_mask

TEXT: Final = 1
BINARY: Final = 2
PING: Final = b"\x89\x00"
COMPRESS_MIN: Final = 128
"""Bytes below which compression costs more than it saves."""
VIEW_MIN: Final = 8192
"""Bytes from which making a view costs less than a copy."""
REASON_MAX: Final = 123
"""RFC 6455 5.5: a control frame carries 125 bytes, of which the code takes 2."""

Message: TypeAlias = tuple[int, str | bytes]

SMALL: Final = [[bytes((0x80 | op, length)) for length in range(126)] for op in (0, TEXT, BINARY)]
"""The heads of frames with less than 126 bytes, by op and size."""

_logger = logging.getLogger("gkore.websocket")
_logger.addHandler(logging.NullHandler())
_logger.propagate = False


def encode(op: int, data: bytes, window: int = 0) -> bytes:
    """One whole unmasked frame; with a ``window`` (bits, 9 to 15) a payload worth it is compressed (RFC 7692 7.2.1)."""
    size = len(data)
    if window and size >= COMPRESS_MIN:
        deflater = zlib.compressobj(wbits=-window, memLevel=5)
        data = (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
        return head(0xC0 | op, len(data)) + data
    if size < 126:
        return SMALL[op][size] + data
    return head(0x80 | op, size) + data


def head(first: int, size: int) -> bytes:
    """The head of an unmasked frame: ``first`` is FIN, reserved bits and opcode (RFC 6455 5.2)."""
    if size < 126:
        return bytes((first, size))
    if size < 65536:
        return struct.pack("!BBH", first, 126, size)
    return struct.pack("!BBQ", first, 127, size)


def extent(data: bytes, at: int = 0) -> int:
    """Bytes of the frame that begins at ``at``, head included; 0 while its head is incomplete."""
    size = len(data) - at
    if size < 2:
        return 0
    second = data[at + 1]
    length = second & 127
    start = 6 if second & 128 else 2
    if length > 125:
        width = 2 if length == 126 else 8
        if size < 2 + width:
            return 0
        length = int.from_bytes(data[at + 2 : at + 2 + width])
        start += width
    return start + length if size >= start else 0


class FrameReader:
    """One client's frames. ``out`` is what must be sent, in order; when ``finished``, nothing follows it."""

    __slots__ = (
        "_body",
        "_deflate",
        "_engine",
        "_fin",
        "_kept",
        "_left",
        "_limits",
        "_mask",
        "_op",
        "_plain_max",
        "_quiet",
        "_squeezed",
        "_tail",
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
        self._kept = b""
        """The beginning of a frame's head."""
        self._left = 0
        """Bytes of the present frame that have not come yet."""
        self._mask = b""
        """Its masking key, turned to the next byte; empty when the frame is the engine's."""
        self._fin = False
        self._quiet = True
        """Nothing kept, no message begun, nothing closing: the next chunk may take the short path."""
        self._op = 0
        """Of the message that has begun; 0 between messages."""
        self._body = bytearray()
        """What has come of it."""
        self._tail = b""
        """The first bytes of a character at its end."""
        self._squeezed = False
        """It is compressed, and the engine's."""
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
        data = self._kept + data
        at, end = 0, len(data)
        messages: list[Message] = []
        while not self.finished:
            if not self._left and self._mask:  # a plain frame is whole
                self._mask = b""
                if self._fin:
                    self._complete(messages)
                continue
            if not self._left:
                size = extent(data, at)
                if not size:
                    break
                at += self._begin(data, at, size)
                continue
            if at == end:
                break
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if self._mask:
                self._unmask(piece)
            else:
                self._consult(piece, messages)
        self._kept = b"" if self.finished else data[at:]
        self._quiet = not self._kept and not self._left and not self._op and self._open()
        return messages

    def _open(self) -> bool:
        engine = self._engine
        return not self.finished and (engine is None or engine.state is OPEN)

    def _begin(self, data: bytes, at: int, size: int) -> int:
        """A frame of ``size`` bytes begins: decide whose it is; the bytes of its head when it is ours, else 0."""
        first, second = data[at], data[at + 1]
        length = second & 127
        start = 6 if length < 126 else 8 if length == 126 else 14
        op = first & 15
        self._left = size
        if 0 < op <= BINARY and self._op and not self._squeezed:
            self._fail(1002, "a message within another's fragments")
            return 0
        if first & 0x70 or op > BINARY or second < 128 or self._squeezed or not self._open():
            return 0
        message_max, frame_max = self._limits
        if size - start > frame_max or not (op or self._op):
            return 0
        if len(self._body) + size - start > message_max:
            self._fail(1009, f"a message over {message_max} bytes")
        self._op = op or self._op
        self._left = size - start
        self._mask = data[at + start - 4 : at + start]
        self._fin = first >= 128
        return start

    def _unmask(self, piece: bytes) -> None:
        """A piece of a plain frame."""
        mask = self._mask
        turn = len(piece) & 3
        self._mask = mask[turn:] + mask[:turn]
        self._keep(apply_mask(piece, mask))

    def _keep(self, piece: bytes) -> None:
        """Add a piece to the message; text that can't become right ends the connection."""
        self._body += piece
        if self._op == TEXT and (self._tail or not piece.isascii()):
            piece = self._tail + piece
            try:
                self._tail = piece[utf_8_decode(piece)[1] :]
            except UnicodeDecodeError:
                self._fail(1007, "text is not UTF-8")

    def _complete(self, messages: list[Message]) -> None:
        """The message is whole."""
        if self._tail:
            self._fail(1007, "text ends within a character")
            return
        body = self._body
        messages.append((self._op, body.decode() if self._op == TEXT else bytes(body)))
        self._op, self._body, self._squeezed = 0, bytearray(), False

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
            if isinstance(frame, Frame) and frame.opcode <= Opcode.BINARY and not self.finished:
                self._fragment(frame, messages)
        if not self.finished:
            self._drain_engine()

    def _fragment(self, frame: Frame, messages: list[Message]) -> None:
        """One frame of a compressed message that the engine let pass: a part of it or the whole."""
        self._op = int(frame.opcode) or self._op
        self._squeezed = True
        self._keep(bytes(frame.data))
        if frame.fin and not self.finished:
            self._complete(messages)

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
