"""A client that calls handlers in this process: no port, no fork, milliseconds.

``with Client("app.py") as client: assert client.get("/").text == "hello"``. What is called is everything between a
request's first byte and the answer's last: the parser, limits, validators, authentication, coroutines, websockets.
Timers and tasks run whenever the test waits for an answer. An exception in a handler is raised in the test.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any
from urllib.parse import urlencode

from gkore.conf import application as applications
from gkore.conf.application import Application
from gkore.conf.assembly import assemble
from gkore.conf.declarations import add_bind, implicit_server
from gkore.errors import ConfError
from gkore.testing.answer import Answer
from gkore.testing.websocket import WebSocket

_met: list[Application] = []
"""Applications of modules that are complete: the next client of the same module takes them up again."""
_open: list[Application] = []
"""Applications of files whose clients are open: another client of the same file imports it anew."""


class Client:
    """Requests to an application: a script, a package, a conf (its path or its text), or an imported module.

    ``seconds`` bounds each wait for an answer: TimeoutError. ``host`` is the Host header, ``server`` the name of the
    site's server that is spoken to (default: the first), ``raises`` whether what handlers raise is raised here, too.
    Constructing it raises what ``gkore --check`` would print: StartError, ConfError.
    """

    def __init__(
        self,
        app: str | Path | ModuleType,
        *,
        host: str = "localhost",
        server: str = "",
        seconds: float = 10.0,
        raises: bool = True,
    ) -> None:
        import kore  # noqa: F401  so that the application gets this one, however it was found
        from gkore.worker.indoors import Indoors, forget_modules

        self.host, self.server, self.seconds, self.raises = host, server, seconds, raises
        self._before = applications.current()
        for other in _open:
            forget_modules(other)
        self._folder = os.getcwd()
        self.application = self._module(app) if isinstance(app, ModuleType) else self._file(app)
        self._worker = Indoors(self.application)
        self._worker.boot()
        if self.application not in _met:
            _open.append(self.application)

    def _module(self, module: ModuleType) -> Application:
        for known in _met:
            if module in known.modules:
                return applications.adopt(known)
        application = self._before
        application.modules.append(module)
        _met.append(application)
        applications.adopt(Application())  # what is imported from now on belongs to others
        self._before = applications.current()
        return complete(applications.adopt(application), "")

    def _file(self, app: str | Path) -> Application:
        if isinstance(app, str) and "\n" in app:
            return self._text(app)
        if os.path.isdir(app) or str(app).endswith(".py"):
            return complete(applications.adopt(Application(script=str(app))), "")
        return complete(applications.adopt(Application()), os.path.abspath(app))

    def _text(self, conf: str) -> Application:
        with tempfile.NamedTemporaryFile("w", suffix=".conf", delete=False) as file:
            file.write(conf)
        try:
            return complete(applications.adopt(Application()), file.name)
        finally:
            os.unlink(file.name)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the application as a server's stop would: kore_worker_teardown, then kore_parent_teardown."""
        from gkore.worker.indoors import forget_modules

        self._worker.leave()
        hook = self.application.hook("parent_teardown")
        if hook is not None:
            hook()
        if self.application in _open:
            forget_modules(self.application)
            _open.remove(self.application)
        applications.adopt(self._before)
        os.chdir(self._folder)

    # Requests

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        form: Mapping[str, Any] | None = None,
        json: Any = None,
    ) -> Answer:
        """One request on a connection of its own; ``form`` and ``json`` are encoded and typed."""
        data, kind = encoded(body, form, json)
        with self.stream(method, path, body=data, headers=[*kind, *pairs(headers)]) as response:
            return Answer(response.status, response.headers, response.read())

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    ) -> Iterator[http.client.HTTPResponse]:
        """The response as it arrives: ``for line in response``; leaving the block is the client leaving."""
        try:
            with self._worker.call(self.server, self.seconds) as line:
                line.sendall(self._head(method, path, pairs(headers), body) + body)
                with http.client.HTTPResponse(line, method=method) as response:  # type: ignore[arg-type]
                    response.begin()
                    yield response
        finally:
            self._raise()

    def get(self, path: str, **options: Any) -> Answer:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> Answer:
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> Answer:
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Answer:
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Answer:
        return self.request("DELETE", path, **options)

    @contextmanager
    def websocket(self, path: str, **options: Any) -> Iterator[WebSocket]:
        """A websocket; leaving the block closes it. ConnectionError when the handshake is refused."""
        try:
            with self._worker.call(self.server, self.seconds) as line:
                socket = WebSocket(line, f"ws://{self.host}{path}", **options)
                yield socket
                socket.close()
        finally:
            self._raise()

    def _head(self, method: str, path: str, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
        given = {name.lower() for name, _ in headers}
        fields = [] if "host" in given else [("host", self.host)]
        if body and not given & {"content-length", "transfer-encoding"}:
            fields.append(("content-length", str(len(body))))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (*fields, *headers)), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def _raise(self) -> None:
        failures, self._worker.failures = self._worker.failures, []
        if failures and self.raises:
            raise failures[0]


def complete(application: Application, conf: str) -> Application:
    """Assemble an application, with a server for its domains when it names none."""

    def with_server(built: Application) -> None:
        if not built.site.servers:
            add_bind(implicit_server(built.site), "127.0.0.1", "0", "")

    try:
        assemble(application, conf, with_server)
    except ConfError as failure:
        for mistake in failure.mistakes:
            failure.add_note(mistake.render())
        raise
    hook = application.hook("parent_configure")
    if hook is not None:
        hook(application.arguments)
    return application


def pairs(headers: Mapping[str, str] | Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers as a list; a name or value with a line end is a ValueError."""
    listed = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    for name, value in listed:
        if re.search(r"[\r\n]", f"{name}{value}"):
            raise ValueError(f"a header can't hold a line end: {name!r}: {value!r}")
    return listed


def encoded(
    body: bytes | str | None, form: Mapping[str, Any] | None, value: Any
) -> tuple[bytes, list[tuple[str, str]]]:
    """The body as bytes, and its content-type."""
    if form is not None:
        return urlencode(form, doseq=True).encode(), [("content-type", "application/x-www-form-urlencoded")]
    if value is not None:
        return json.dumps(value).encode(), [("content-type", "application/json")]
    return (body.encode() if isinstance(body, str) else body or b""), []
