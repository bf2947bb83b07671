"""``req``: what a handler sees of a request and how it answers.

One object a request, made by the parser (it is a ``Head``), never used again. It has a ``__dict__``, so that
applications may hang their own attributes on it (Kore 4); what most requests leave alone lives on the class.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gkore.compiled import mypyc_attr
from gkore.errors import ProtocolError
from gkore.protocol.cookies import parse_cookies
from gkore.protocol.forwarded import Client, accept_request_id
from gkore.protocol.query import parse_form, parse_query
from gkore.worker import body as bodies
from gkore.worker import database, parameters
from gkore.worker.answer import Answer
from gkore.worker.handshake import callbacks, handshake
from gkore.worker.uploads import HttpFile, read_form

if TYPE_CHECKING:
    from gkore.worker.inflow import Inflow


@mypyc_attr(allow_interpreted_subclasses=True)
class Request(Answer):
    """One HTTP request (``kore.http_request``)."""

    begun: int = 0
    """By time.perf_counter_ns, where the access log tells how long a request took."""
    body_since: int = 0
    """When the body began to arrive, by the clock of the worker; 0 before that."""
    spool: bodies.Spool | None = None
    """Holds the body, when it may be too large for memory."""
    inlet: deque[bytes] | None = None
    """What on_body_chunk, or a WSGI application, has not seen yet."""
    inflow: Inflow | None = None
    """The body, while a WSGI application reads it."""
    eager: bool = False
    """The route's hooks, or its WSGI application, want to see the request before it is whole."""
    streamed: bool = False
    """It is the application."""
    opened: bool = False
    """on_headers has been called."""
    entered: bool | None = None
    """Whether the gates of the route's plan let it through; None until they were asked."""
    over: bool = False
    _arguments: dict[str, str] | None = None
    _cookies: dict[str, str] | None = None
    _files: dict[str, HttpFile] | None = None
    _read: int = 0
    _client: Client | None = None
    _id: str = ""

    @property
    def host(self) -> str:
        """The Host header as sent, with its port; behind a trusted proxy the host that the client asked for."""
        proxied = self._forwarded().host if self.connection.service.proxies is not None else ""
        return proxied or (self.line.authority or self.fields.host or b"").decode("latin-1")

    @property
    def client(self) -> str:
        """The client's address, behind trusted proxies the one that they name; "" for a UNIX socket. Ours."""
        if self.connection.service.proxies is None:
            peer = self.connection.peer
            return peer[0] if isinstance(peer, tuple) else ""
        return self._forwarded().address

    def _forwarded(self) -> Client:
        if self._client is None:
            self._client = self.connection.service.find_client(self)
        return self._client

    @property
    def request_id(self) -> str:
        """What to call this request in logs: a trusted proxy's X-Request-Id, or one made now. Ours."""
        if not self._id:
            service = self.connection.service
            believed = service.proxies is not None and service.trusts(self.connection.peer)
            told = self.request_header("x-request-id") if believed else None
            self._id = (told and accept_request_id(told)) or next(service.fleet.ids)
        return self._id

    @property
    def path(self) -> str:
        """The path as sent: neither decoded nor normalised, without the query string."""
        return self.line.path

    @property
    def query(self) -> str:
        """The query string as sent, without ``?``. Ours: Kore's Python has none."""
        return self.line.query.decode("ascii", "replace")

    @property
    def method(self) -> int:
        """``kore.HTTP_METHOD_GET`` and its kin."""
        return self.line.method

    @property
    def agent(self) -> str | None:
        """The User-Agent header. Kore gives the path here by mistake."""
        return self.request_header("user-agent")

    @property
    def protocol(self) -> str:
        """``https`` or ``http`` (Kore 4.2), behind a trusted proxy as the client speaks to it."""
        service = self.connection.service
        return (service.proxies is not None and self._forwarded().scheme) or service.scheme

    @property
    def body(self) -> bytes:
        """The whole body, also one that is on disk; ``b""`` when there is none."""
        return self.content if self.spool is None else self.spool.read(0, self.spool.size)

    @property
    def body_path(self) -> str | None:
        """The file that holds the body, when it was offloaded to disk; it is removed with the request."""
        return None if self.spool is None or self.spool.file is None else self.spool.file.path

    @property
    def body_digest(self) -> bytes:
        """SHA-256 of the body, 32 bytes (Kore 4.2)."""
        return bodies.digest(self.content, self.spool)

    def request_header(self, name: str) -> str | None:
        """The first value of a header, looked up without regard to case; None when it was not sent."""
        value = self.fields.get(name.lower().encode("latin-1", "replace"))
        return None if value is None else value.decode("latin-1")

    def headers(self) -> dict[str, str]:
        """All headers, names in lower case; of a repeated one the last (Kore 4.3)."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.fields}

    def body_read(self, length: int) -> tuple[int, bytes]:
        """Up to ``length`` bytes of the body as ``(count, data)``; ``(0, b"")`` is its end. ValueError if negative."""
        if length < 0:
            raise ValueError("body_read: a length can't be negative")
        end = self._read + length
        data = self.content[self._read : end] if self.spool is None else self.spool.read(self._read, length)
        self._read += len(data)
        return len(data), data

    # Parameters

    def argument(self, name: str) -> str | None:
        """A parameter that a populate call found and its validator accepted, else None."""
        return None if self._arguments is None else self._arguments.get(name)

    def cookie(self, name: str) -> str | None:
        """A cookie's value after ``populate_cookies``, looked up without regard to case (Kore), else None."""
        return None if self._cookies is None else self._cookies.get(name.lower())

    def file_lookup(self, name: str) -> HttpFile | None:
        """An uploaded file after ``populate_multi``, by its form field; None when there is none."""
        return None if self._files is None else self._files.get(name)

    def populate_get(self) -> bool:
        """Take the declared parameters of this method from the query string. ProtocolError 400 for too many."""
        rules = self._rules(True)
        if rules:
            self._keep(parameters.accept(rules, self, parse_query(self.line.query, self.connection.service.params_max)))
        return True

    def populate_post(self) -> bool:
        """Take the declared parameters from an urlencoded body of POST, and (ours) of PUT and PATCH.

        ProtocolError 400 for too many, 413 for a body that is too large for a form.
        """
        rules = self._rules(False)
        if rules:
            if self.spool is not None and self.spool.size > bodies.FORM_MAX:
                raise ProtocolError(413, bodies.FORM_TOO_LARGE.format(self.spool.size))
            self._keep(parameters.accept(rules, self, parse_form(self.body, self.connection.service.params_max)))
        return True

    def populate_multi(self) -> bool:
        """Take declared parameters and all files from a multipart body. ProtocolError 400 or 413 for a broken one."""
        service = self.connection.service
        pairs, files = read_form(self, service.params_max)
        self._files = {**files, **(self._files or {})}
        self._keep(parameters.accept(self._rules(False), self, pairs))
        return True

    def populate_multipart(self) -> bool:
        """As ``populate_multi``."""
        return self.populate_multi()

    def populate_cookies(self) -> bool:
        """Read the Cookie headers, for ``cookie``."""
        pairs = parse_cookies(self.fields.all(b"cookie"), self.connection.service.cookies_max)
        self._cookies = {}
        for name, value in pairs:
            self._cookies.setdefault(name.lower(), value)
        return True

    def _rules(self, query: bool) -> parameters.Rules:
        rules: parameters.Rules = self.action.rules.find(self.line.method, query)
        return rules

    def _keep(self, accepted: dict[str, str]) -> None:
        self._arguments = {**accepted, **self._arguments} if self._arguments else accepted

    def pgsql(
        self, db: str, query: str, *, params: list[str | bytes | None] | None = None, binary: bool = False
    ) -> database.Query:
        """Await it to query the database of that name: see ``kore.dbquery``."""
        return database.query(db, query, params, binary, -1)

    def release(self) -> None:
        """The request is over: its files are removed, uploaded ones with them."""
        if self.spool is not None:
            self.spool.close()

    def websocket_handshake(
        self, onconnect: Any, onmessage: Any, ondisconnect: Any, subprotocols: Sequence[str] = ()
    ) -> bool:
        """Make the connection a websocket; the callbacks by name (Kore 3) or themselves (Kore 4), plain or async.

        They get ``(c)``, ``(c, op, data)`` with str for text and bytes for binary, ``(c)``. False when the request asks
        for none, or not rightly: it is answered (405, 426, 403, 400), onconnect is not called as in Kore.
        ``subprotocols`` (ours): the first that the client offers is agreed on. LookupError for an unknown name.
        """
        return handshake(self, callbacks(onconnect, onmessage, ondisconnect), subprotocols) is not None
