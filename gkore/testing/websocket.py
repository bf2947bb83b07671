"""The client's end of a websocket, over a connection inside of this process."""

from __future__ import annotations

from typing import Any

from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

RECV = 65536


class WebSocket:
    """``send`` and ``recv`` whole messages: str is text, bytes are binary."""

    def __init__(self, line: Any, url: str, subprotocols: tuple[str, ...] = (), origin: str = "") -> None:
        self._line = line
        offered = [Subprotocol(name) for name in subprotocols] or None
        self._protocol = ClientProtocol(
            parse_uri(url), subprotocols=offered, origin=Origin(origin) if origin else None, max_size=None
        )
        self._messages: list[str | bytes] = []
        self._parts: list[bytes] = []
        self._text = False
        self._protocol.send_request(self._protocol.connect())
        self._flush()
        while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None and self._read():
            pass
        if self._protocol.handshake_exc is not None:
            raise ConnectionError(f"the handshake was refused: {self._protocol.handshake_exc}")

    @property
    def subprotocol(self) -> str | None:
        """What was agreed on."""
        return self._protocol.subprotocol

    @property
    def close_code(self) -> int | None:
        """Why it closed (RFC 6455 7.4); None while it is open."""
        return self._protocol.close_code

    def send(self, message: str | bytes) -> None:
        """Send one message."""
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        self._flush()

    def recv(self) -> str | bytes:
        """The next message. ConnectionError when the server closed, TimeoutError when nothing comes."""
        while not self._messages:
            if not self._read():
                raise ConnectionError(f"the websocket is closed with code {self.close_code}")
        return self._messages.pop(0)

    def close(self, code: int = 1000) -> None:
        """Close in order; a second call does nothing."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code)
            self._flush()
            while self._read():
                pass

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._line.sendall(data)

    def _read(self) -> bool:
        """Take in what comes next; False at the end."""
        buffer = bytearray(RECV)
        count = self._line.readinto(buffer)
        if count:
            self._protocol.receive_data(bytes(buffer[:count]))
        else:
            self._protocol.receive_eof()
        self._flush()
        for event in self._protocol.events_received():
            if hasattr(event, "opcode"):
                self._take(event)
        return bool(count)

    def _take(self, frame: Any) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._text, self._parts = frame.opcode is Opcode.TEXT, []
        elif frame.opcode is not Opcode.CONT:
            return
        self._parts.append(bytes(frame.data))
        if frame.fin:
            whole = b"".join(self._parts)
            self._messages.append(whole.decode() if self._text else whole)
