"""The chunked coding of a request body (RFC 9112 section 7.1): sizes, data, trailers; extensions are skipped.

The decoder finds where a body ends; llhttp reads the same bytes and must find the same end (see ``request``). It is
strict: hexadecimal sizes of at most 15 digits, CRLF only, lines of bounded length, data followed by CRLF.
"""

from __future__ import annotations

from gkore.errors import ProtocolError

SIZE_LINE_MAX = 1024
TRAILERS_MAX = 8192
_HEX = frozenset(b"0123456789abcdefABCDEF")

_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


class ChunkedDecoder:
    """Feed it what follows the head; ``done`` when the last chunk and the trailers have been seen."""

    __slots__ = ("_line", "_state", "_trailers", "left")

    def __init__(self) -> None:
        self._state = _SIZE
        self.left = 0
        self._line = b""
        self._trailers = 0

    @property
    def done(self) -> bool:
        return self._state == _DONE

    def feed(self, data: bytes) -> tuple[int, list[bytes]]:
        """How many bytes of ``data`` belong to the body, and the decoded pieces. ProtocolError 400."""
        at = 0
        pieces: list[bytes] = []
        while at < len(data) and self._state != _DONE:
            if self._state == _DATA:
                piece = data[at : at + self.left]
                pieces.append(piece)
                at += len(piece)
                self.left -= len(piece)
                if not self.left:
                    self._state = _DATA_END
                continue
            end = data.find(b"\n", at)
            part = data[at : end + 1] if end >= 0 else data[at:]
            at += len(part)
            self._line += part
            self._bound()
            if end >= 0:
                line, self._line = self._line, b""
                self._end_line(line)
        return at, pieces

    def _bound(self) -> None:
        limit = 2 if self._state == _DATA_END else SIZE_LINE_MAX if self._state == _SIZE else TRAILERS_MAX
        if len(self._line) > limit:
            raise ProtocolError(400, "chunk line too long")

    def _end_line(self, line: bytes) -> None:
        if line[-2:] != b"\r\n":
            raise ProtocolError(400, "chunk line without CRLF")
        if self._state == _SIZE:
            self._size(line[:-2].partition(b";")[0].rstrip(b" \t"))
        elif self._state == _DATA_END:
            if line != b"\r\n":
                raise ProtocolError(400, "chunk longer than its size")
            self._state = _SIZE
        elif line == b"\r\n":
            self._state = _DONE
        else:
            self._trailers += len(line)
            if self._trailers > TRAILERS_MAX:
                raise ProtocolError(431, "trailers too large")

    def _size(self, digits: bytes) -> None:
        if not 0 < len(digits) < 16 or not _HEX.issuperset(digits):
            raise ProtocolError(400, "bad chunk size")
        self.left = int(digits, 16)
        self._state = _DATA if self.left else _TRAILERS
