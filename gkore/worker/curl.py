"""``kore.curl``: libcurl on the hub, for all that it can do. The optional extra ``gkore[curl]``.

One CurlMulti a worker: libcurl says which descriptors and which time to wait for (curl_multi_socket_action(3)).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from gevent import get_hub

from gkore.conf.application import current
from gkore.worker.waits import Awaitable, Waiter

try:
    import pycurl
except ImportError:
    pycurl = None

MISSING = "kore.curl, curlopt and kore.CURLOPT_... need pycurl: pip install gkore[curl]"
PREFIX = "CURLOPT_"


def option(name: str) -> int:
    """The number of ``kore.CURLOPT_NAME``. ImportError without pycurl, AttributeError when there is no such option."""
    require()
    number = getattr(pycurl, name.removeprefix(PREFIX), None)
    if not isinstance(number, int):
        raise AttributeError(f"module 'kore' has no attribute '{name}'")
    return number


def require() -> None:
    if pycurl is None:
        raise ImportError(MISSING, name="pycurl")


class Multi:
    """The transfers of this worker."""

    def __init__(self) -> None:
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._time)
        self._watchers: dict[int, Any] = {}
        self._timer: Any = get_hub().loop.timer(0)
        self._waiters: dict[Any, Waiter] = {}

    def perform(self, handle: Any, what: object) -> None:
        """Run a transfer. RuntimeError with libcurl's text."""
        waiter = self._waiters[handle] = Waiter()
        self._multi.add_handle(handle)
        try:
            failure = waiter.wait(what)
        finally:
            del self._waiters[handle]
            self._multi.remove_handle(handle)
        if failure:
            raise RuntimeError(failure)

    def _watch(self, what: int, descriptor: int, multi: object, data: object) -> None:
        watcher = self._watchers.pop(descriptor, None)
        if watcher is not None:
            watcher.stop()
            watcher.close()
        if what != pycurl.POLL_REMOVE:
            watcher = self._watchers[descriptor] = get_hub().loop.io(descriptor, what)  # POLL_IN is 1, POLL_OUT 2
            watcher.start(partial(self._act, descriptor, what))

    def _time(self, milliseconds: int) -> None:
        self._timer.stop()
        if milliseconds >= 0:
            self._timer.close()
            self._timer = get_hub().loop.timer(milliseconds / 1000.0)
            self._timer.start(self._act, pycurl.SOCKET_TIMEOUT, 0)

    def _act(self, descriptor: int, events: int) -> None:
        self._multi.socket_action(descriptor, events)
        while True:
            left, done, failed = self._multi.info_read()
            for handle in done:
                self._waiters[handle].wake("")
            for handle, number, text in failed:
                self._waiters[handle].wake(text or f"libcurl error {number}")
            if not left:
                return


_multi: list[Multi] = []


class Transfer:
    """One request of libcurl's, and its answer."""

    def __init__(self, url: str) -> None:
        require()
        settings = current().settings
        self._handle = pycurl.Curl()
        self._most = settings.curl_recv_max
        self._length = 0
        self._parts: list[bytes] = []
        self.received_headers: dict[str, str] = {}
        self._handle.setopt(pycurl.URL, url)
        self._handle.setopt(pycurl.NOSIGNAL, 1)
        self._handle.setopt(pycurl.TIMEOUT, settings.curl_timeout)
        self._handle.setopt(pycurl.WRITEFUNCTION, self._write)
        self._handle.setopt(pycurl.HEADERFUNCTION, self._header)

    def setopt(self, number: int, value: Any) -> None:
        """Set an option of libcurl's. RuntimeError when it does not exist or does not take such a value."""
        try:
            self._handle.setopt(number, value)
        except (pycurl.error, TypeError) as failure:
            text = failure.args[-1] if failure.args else failure
            raise RuntimeError(f"invalid option '{number}': {text}") from None

    def method(self, verb: str, body: bytes | None) -> None:
        if verb == "HEAD":
            self._handle.setopt(pycurl.NOBODY, 1)
        if body is not None:
            self._handle.setopt(pycurl.POSTFIELDS, body)
        if verb:
            self._handle.setopt(pycurl.CUSTOMREQUEST, verb)

    def headers(self, headers: Mapping[str, str]) -> None:
        self._handle.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in headers.items()])

    def tls(self, verify: bool, bundle: str | None, certificate: str | None, key: str | None) -> None:
        self._handle.setopt(pycurl.SSL_VERIFYPEER, int(verify))
        self._handle.setopt(pycurl.SSL_VERIFYHOST, 2 if verify else 0)
        for number, value in ((pycurl.CAINFO, bundle), (pycurl.SSLCERT, certificate), (pycurl.SSLKEY, key)):
            if value is not None:
                self._handle.setopt(number, value)

    def unix(self, path: str) -> None:
        if path.startswith("@"):
            raise RuntimeError("pycurl knows no abstract UNIX sockets; without curlopt they work")
        self._handle.setopt(pycurl.UNIX_SOCKET_PATH, path)

    def run(self, what: object = "libcurl") -> None:
        """Make the request; it can't be made again. RuntimeError with libcurl's text."""
        if not _multi:
            _multi.append(Multi())
        try:
            _multi[0].perform(self._handle, what)
            self.status = int(self._handle.getinfo(pycurl.RESPONSE_CODE))
        finally:
            self._handle.close()

    @property
    def body(self) -> bytes:
        return b"".join(self._parts)

    def _write(self, data: bytes) -> int:
        self._length += len(data)
        if self._length > self._most:
            return 0  # libcurl: CURLE_WRITE_ERROR
        self._parts.append(data)
        return len(data)

    def _header(self, line: bytes) -> None:
        text = line.decode("latin-1").strip()
        if text.startswith("HTTP/"):
            self.received_headers.clear()  # of a redirect, or of 100 Continue
        name, colon, value = text.partition(":")
        if colon:
            self.received_headers[name] = value.strip()


class Handle:
    """``kore.curl(url)``: any request that libcurl can make (Kore 4)."""

    __slots__ = ("_body", "_transfer", "_url")

    def __init__(self, url: str) -> None:
        self._transfer = Transfer(url)
        self._url = url
        self._body = False

    def setopt(self, option: int, value: Any) -> None:
        """Set ``kore.CURLOPT_...``. RuntimeError when there is no such option, or it does not take ``value``."""
        self._transfer.setopt(option, value)

    def setbody(self, body: bytes) -> None:
        """What is sent. RuntimeError for a second one, and for what is not bytes."""
        if not isinstance(body, bytes):
            raise RuntimeError("curl.setbody expects bytes")
        if self._body:
            raise RuntimeError("curl handle already has body attached")
        self._body = True
        self._transfer.method("", body)

    def run(self) -> Run:
        """Await it for the body of the answer. RuntimeError "request failed: ..." with libcurl's text."""
        return Run(self._transfer, self._url)


class Run(Awaitable):
    """A transfer, begun when it is awaited."""

    __slots__ = ("_transfer", "_url")

    def __init__(self, transfer: Transfer, url: str) -> None:
        self._transfer = transfer
        self._url = url

    def wait(self) -> bytes:
        try:
            self._transfer.run(self)
        except RuntimeError as failure:
            raise RuntimeError(f"request failed: {failure}") from None
        return self._transfer.body

    def __str__(self) -> str:
        return f"libcurl, {self._url}"
