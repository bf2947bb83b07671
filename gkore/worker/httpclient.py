"""``kore.httpclient``: HTTP requests to other servers, on geventhttpclient.

Each request in flight has a client of its own, kept for the next one when all went well: a request that is ended
half-way leaves nothing that could be mistaken for an answer. Redirects are not followed, bodies are not decoded, as in
Kore.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any

import gevent
import gevent.socket
from geventhttpclient import HTTPClient
from geventhttpclient.connectionpool import ConnectionPool, SSLConnectionPool
from geventhttpclient.response import HTTPParseError
from geventhttpclient.url import URL

from gkore import __version__
from gkore.conf.application import current
from gkore.worker import curl
from gkore.worker.sockets import as_bytes
from gkore.worker.waits import Awaitable

IDLE_MAX = 16
CHUNK = 65536
AGENT = {"User-Agent": f"gkore/{__version__}"}
Answer = tuple[int, bytes] | tuple[int, dict[str, str], bytes]


class Client:
    """Requests to one URL (``kore.httpclient``)."""

    def __init__(
        self,
        url: str,
        *,
        tlscert: str | None = None,
        tlskey: str | None = None,
        cabundle: str | None = None,
        tlsverify: bool = True,
        unix: str | None = None,
        curlopt: Mapping[int, Any] | None = None,
    ) -> None:
        """RuntimeError for a certificate without its key or the reverse; ``unix="@name"`` is an abstract socket.

        ``curlopt`` needs the extra ``gkore[curl]``: such requests are made by libcurl.
        """
        if (tlscert is None) != (tlskey is None):
            raise RuntimeError("invalid TLS client configuration")
        if curlopt is not None and not isinstance(curlopt, dict):
            raise RuntimeError("curlopt must be a dictionary")
        self.url = url
        self.certificate = (tlscert, tlskey)
        self.cabundle = cabundle
        self.verify = tlsverify
        self.unix = unix
        self.curlopt = dict(curlopt or {})
        self._idle: list[HTTPClient] = []
        self._context: ssl.SSLContext | None = None

    def get(self, *_: object, **keywords: Any) -> Request:
        """Await ``(status, body)``, or ``(status, headers, body)`` with ``return_headers=True``.

        Keywords of all methods: ``headers`` (a dict), ``body``, ``return_headers``, ``curlopt``. RuntimeError "request
        to 'URL' failed: ..." when there is no whole answer within ``curl_timeout`` and ``curl_recv_max``.
        """
        return Request(self, "GET", **keywords)

    def head(self, *_: object, **keywords: Any) -> Request:
        """As ``get``, as are ``options`` and ``delete``; the body is empty."""
        return Request(self, "HEAD", **keywords)

    def options(self, *_: object, **keywords: Any) -> Request:
        return Request(self, "OPTIONS", **keywords)

    def delete(self, *_: object, **keywords: Any) -> Request:
        return Request(self, "DELETE", **keywords)

    def put(self, *_: object, **keywords: Any) -> Request:
        """As ``get``; RuntimeError without a body, as for ``post`` and ``patch``."""
        return Request(self, "PUT", **expecting_body(keywords))

    def post(self, *_: object, **keywords: Any) -> Request:
        return Request(self, "POST", **expecting_body(keywords))

    def patch(self, *_: object, **keywords: Any) -> Request:
        return Request(self, "PATCH", **expecting_body(keywords))

    # Clients that nobody uses.

    def take(self) -> HTTPClient:
        return self._idle.pop() if self._idle else self._make()

    def give_back(self, client: HTTPClient) -> None:
        if len(self._idle) < IDLE_MAX:
            self._idle.append(client)
        else:
            client.close()

    def _make(self) -> HTTPClient:
        timeout = current().settings.curl_timeout or None
        limits: dict[str, Any] = {"connection_timeout": timeout, "network_timeout": timeout, "headers": AGENT}
        url = URL(self.url)
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("URL using bad/illegal format or missing URL")
        if url.scheme == "https":
            limits |= {"ssl_context_factory": self._tls, "insecure": not self.verify}
        client = HTTPClient.from_url(url, **limits)
        if self.unix is not None:
            path = "\0" + self.unix[1:] if self.unix.startswith("@") else self.unix
            pool: Any = client._connection_pool
            pool._create_socket = local(pool, path)
        return client

    def _tls(self, *_: object, **__: object) -> ssl.SSLContext:
        """The context of all connections, made once: reading the certificates of the system takes 20 ms."""
        if self._context is None:
            context = ssl.create_default_context(cafile=self.cabundle)
            if not self.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            certificate, key = self.certificate
            if certificate is not None:
                context.load_cert_chain(certificate, key)
            self._context = context
        return self._context


def local(pool: ConnectionPool, path: str) -> Callable[[], Any]:
    """What opens a connection to a UNIX socket instead."""

    def connect() -> Any:
        sock: Any = gevent.socket.socket(gevent.socket.AF_UNIX)
        try:
            sock.settimeout(pool.connection_timeout)
            sock.connect(path)
        except BaseException:
            sock.close()
            raise
        if isinstance(pool, SSLConnectionPool):
            return pool.ssl_context.wrap_socket(sock, server_hostname=pool._request_host)
        return sock

    return connect


def expecting_body(keywords: dict[str, Any]) -> dict[str, Any]:
    if not keywords:
        raise RuntimeError("no keyword arguments given, but body expected")
    if keywords.get("body") is None:
        raise RuntimeError("body expected")
    return keywords


class Request(Awaitable):
    """One request, made when it is awaited."""

    __slots__ = ("_body", "_client", "_headers", "_method", "_options", "_return_headers")

    def __init__(
        self,
        client: Client,
        method: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        return_headers: bool = False,
        curlopt: Mapping[int, Any] | None = None,
    ) -> None:
        if headers is not None and not isinstance(headers, dict):
            raise RuntimeError("headers keyword must be a dict")
        if curlopt is not None and not isinstance(curlopt, dict):
            raise RuntimeError("curlopt must be a dictionary")
        self._client = client
        self._method = method
        self._headers = dict(headers or {})
        self._body = None if body is None else as_bytes(body)
        self._return_headers = return_headers
        self._options = {**client.curlopt, **(curlopt or {})}

    def wait(self) -> Answer:
        try:
            status, headers, body = self._by_curl() if self._options else self._perform()
        except (OSError, HTTPParseError, ValueError, RuntimeError) as failure:
            text = getattr(failure, "strerror", None) or str(failure) or failure.__class__.__name__
            raise RuntimeError(f"request to '{self._client.url}' failed: {text}") from failure
        return (status, headers, body) if self._return_headers else (status, body)

    def _perform(self) -> tuple[int, dict[str, str], bytes]:
        settings = current().settings
        client = self._client.take()
        try:
            with gevent.Timeout(settings.curl_timeout or None, TimeoutError("Timeout was reached")):
                target = URL(self._client.url).request_uri
                response = client.request(self._method, target, body=self._body or b"", headers=self._headers)
                try:
                    body = received(response, settings.curl_recv_max)
                finally:
                    response.release()
        except BaseException:
            client.close()
            raise
        self._client.give_back(client)
        return response.status_code, {str(name): str(value) for name, value in response.items()}, body

    def _by_curl(self) -> tuple[int, dict[str, str], bytes]:
        client = self._client
        certificate, key = client.certificate
        transfer = curl.Transfer(client.url)
        transfer.method(self._method, self._body)
        transfer.headers(self._headers)
        transfer.tls(client.verify, client.cabundle, certificate, key)
        if client.unix is not None:
            transfer.unix(client.unix)
        for option, value in self._options.items():
            transfer.setopt(option, value)
        transfer.run()
        return transfer.status, transfer.received_headers, transfer.body

    def __str__(self) -> str:
        return f"{self._method} {self._client.url}"


def received(response: Any, most: int) -> bytes:
    """The body. RuntimeError when it is longer than ``most`` bytes."""
    parts: list[bytes] = []
    got = 0
    length = response.content_length or 0
    while length <= most:
        part = response.read(CHUNK)
        if not part:
            return b"".join(parts)
        parts.append(part)
        got += len(part)
        length = max(length, got)
    raise RuntimeError(f"the answer is longer than curl_recv_max, {most} bytes")
