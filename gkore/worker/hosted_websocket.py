"""``environ["wsgi.websocket"]``: the interface of gevent-websocket on gkore's websockets, for hosted WSGI applications.

The frames are ours (gevent-websocket's own framing needs 11 ms for 64 KiB); its exceptions are its own, because
applications catch them. The application runs until it is done with its websocket; what it returns is dropped.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from geventwebsocket.exceptions import WebSocketError

from gkore.protocol.frames import BINARY, TEXT
from gkore.worker.handshake import callbacks, handshake
from gkore.worker.websocket import Websocket

if TYPE_CHECKING:
    from gkore.worker.request import Request
    from gkore.worker.wsgi import Application


class WebSocket:
    """What gevent-websocket calls so; texts are str, binary messages bytearray, None is the end."""

    OPCODE_CONTINUATION, OPCODE_TEXT, OPCODE_BINARY = 0, 1, 2
    OPCODE_CLOSE, OPCODE_PING, OPCODE_PONG = 8, 9, 10

    origin: str | None
    protocol: str | None
    version: str | None
    path: str

    def __init__(self, environ: dict[str, Any], websocket: Websocket) -> None:
        self.environ = environ
        self.origin = environ.get("HTTP_ORIGIN")
        self.protocol = websocket.subprotocol or environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL")
        self.version = environ.get("HTTP_SEC_WEBSOCKET_VERSION")
        self.path = environ["PATH_INFO"]
        self.logger = logging.getLogger("gkore.websocket")
        self.handler = self.stream = self
        self._websocket = websocket
        self._told = False

    @property
    def closed(self) -> bool:
        """Nothing can be sent any more."""
        return self._websocket.over

    def receive(self) -> str | bytearray | None:
        """The next message; None at the end. WebSocketError when the end was known before."""
        if self._told:
            raise WebSocketError("Connection is already closed")
        message = self._websocket.receive()
        if message is None:
            self._told = True
            return None
        data = message[1]
        return data if isinstance(data, str) else bytearray(data)

    read_message = wait = receive

    def send(self, message: Any, binary: bool | None = None) -> None:
        """Send str as text, bytes as a binary message unless ``binary`` says otherwise. WebSocketError at the end."""
        if binary is None:
            binary = not isinstance(message, str)
        if not isinstance(message, (str, bytes, bytearray, memoryview)):
            message = str(message)
        if not self._websocket.send(BINARY if binary else TEXT, message) and self.closed:
            raise WebSocketError("Socket is dead")

    def send_frame(self, message: Any, opcode: int) -> None:
        """Send one message with an opcode."""
        self.send(message, opcode == BINARY)

    def close(self, code: int = 1000, message: str | bytes = b"") -> None:
        """Say Close."""
        self._websocket.close(code, message.decode("utf-8", "replace") if isinstance(message, bytes) else message)


def serve(request: Request, application: Application, environ: dict[str, Any]) -> None:
    """Answer the handshake and let the application talk; when it returns or raises, the websocket is closed."""
    offered = environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", "")
    wanted = getattr(application, "app_protocol", None)  # gevent-websocket's way to choose one
    chosen = wanted(environ["PATH_INFO"]) if callable(wanted) and offered else ""
    websocket = handshake(request, callbacks(None, None, None), [chosen] if chosen else ())
    if websocket is None:
        return
    websocket.task = request.connection.task
    environ["wsgi.websocket"] = WebSocket(environ, websocket)
    environ["wsgi.websocket_version"] = environ.get("HTTP_SEC_WEBSOCKET_VERSION")
    try:
        result = application(environ, lambda status, headers, exc_info=None: lambda data: None)
        for _ in result or ():
            pass
        if hasattr(result, "close"):
            result.close()
    except WebSocketError:
        pass  # the client left while the application talked
    except BaseException:
        websocket.close(1011, "the application failed")
        raise
    finally:
        websocket.task = None
        if not websocket.over:
            websocket.close()
