"""Sockets of every kind, over the real kernel."""

from __future__ import annotations

import _socket
import gc
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coroutines import Complete

from gkore import api as kore

LATE = "timeout before operation completed"
Make = Callable[..., Any]


def unpatched(family: int, kind: int, proto: int = 0) -> Any:
    """A socket as C makes it, blocking, as an extension would hand it over."""
    return _socket.socket(family, kind, proto)


@pytest.fixture(params=[socket.socket, unpatched], ids=["python", "raw"])
def make(request: pytest.FixtureRequest) -> Make:
    return request.param  # type: ignore[no-any-return]


def address_of(family: int, tmp_path: Path) -> Any:
    return {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}.get(family, str(tmp_path / "s"))


def where(sock: Any) -> tuple[Any, ...]:
    """The address of a bound socket as ``connect`` and ``sendto`` take it."""
    name = sock.getsockname()
    return (name,) if isinstance(name, str) else (name[0], name[1])


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_streams_connect_accept_send_recv_and_end(complete: Complete, make: Make, family: int, tmp_path: Path) -> None:
    async def serve(listener: Any) -> bytes:
        connection = await kore.socket_wrap(listener).accept()
        got = b""
        while (data := await connection.recv(7)) is not None:
            got += data
            if got.endswith(b"\n"):
                await connection.send(b"x" * 3_000_000)
                connection.close()
                break
        return got

    async def ask(*address: Any) -> int:
        sock = make(family, socket.SOCK_STREAM)
        wrapped = kore.socket_wrap(sock)
        await wrapped.connect(*address)
        await wrapped.send("hello world\n")
        length = 0
        while (data := await wrapped.recv(100_000)) is not None:
            length += len(data)
        wrapped.close()
        assert sock.fileno() >= 0, "a wrapped socket stays open"
        sock.close()
        return length

    async def main() -> Any:
        listener = make(family, socket.SOCK_STREAM)
        listener.bind(address_of(family, tmp_path))
        listener.listen()
        result = await kore.gather(serve(listener), ask(*where(listener)))
        listener.close()
        return result

    assert complete(main()) == [b"hello world\n", 3_000_000]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_datagrams(complete: Complete, make: Make, family: int, tmp_path: Path) -> None:
    async def main() -> Any:
        one, two = make(family, socket.SOCK_DGRAM), make(family, socket.SOCK_DGRAM)
        one.bind(address_of(family, tmp_path))
        two.bind(address_of(family, tmp_path / "..") if family != socket.AF_UNIX else str(tmp_path / "t"))
        first, second = kore.socket_wrap(one), kore.socket_wrap(two)
        await first.sendto(*where(two), b"data")
        await first.sendto(*where(two), "text")
        await first.sendto(*where(two), b"")
        seen = [await second.recvfrom(100), await second.recv(100), await second.recv(100)]
        await first.sendto(*where(two), b"more")
        seen.append(await second.recvmsg(100))
        one.close()
        two.close()
        return seen, where(one) if one.fileno() >= 0 else seen[0][:-1]

    (first, second, empty, third), address = complete(main())
    assert first == (*address, b"data")
    assert second == b"text"
    assert empty == b"", "an empty datagram is no end"
    assert third == (*address, b"more", [])


def test_recvmsg_hands_over_descriptors(complete: Complete) -> None:
    async def main() -> Any:
        one, two = socket.socketpair()
        read, write = os.pipe()
        socket.send_fds(one, [b"here"], [read])
        path, data, ((length, level, kind, message),) = await kore.socket_wrap(two).recvmsg(100)
        passed = int.from_bytes(message[:4], "little")
        os.write(write, b"through")
        through = os.read(passed, 100)
        for descriptor in (read, write, passed):
            os.close(descriptor)
        one.close()
        two.close()
        return path, data, length, level, kind, through

    assert complete(main()) == (None, b"here", 4, socket.SOL_SOCKET, socket.SCM_RIGHTS, b"through")


def test_recvfrom_a_stream_tells_its_end(complete: Complete) -> None:
    async def main() -> Any:
        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        wrapped = kore.socket_wrap(server)
        client.sendall(b"data")
        first = await wrapped.recvfrom(10)
        expected = client.getsockname()
        client.close()
        _, _, data = await wrapped.recvfrom(10)
        server.close()
        listener.close()
        return first, (*expected, b"data"), data

    first, expected, data = complete(main())
    assert first == expected
    assert data is None


@pytest.mark.parametrize("call", ["recv", "recvfrom", "recvmsg"])
def test_late_is_timeout_error_and_the_socket_still_works(complete: Complete, make: Make, call: str) -> None:
    async def main() -> Any:
        sock = make(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        wrapped = kore.socket_wrap(sock)
        with pytest.raises(TimeoutError, match=LATE):
            await getattr(wrapped, call)(10, 5)
        with pytest.raises(TimeoutError):
            await getattr(wrapped, call)(10, 0)
        await wrapped.sendto(*where(sock), b"after")
        result = await getattr(wrapped, call)(10, 5000)
        sock.close()
        return result

    result = complete(main())
    assert b"after" in (result if call != "recv" else [result])


def test_a_slow_reader_makes_a_bounded_send_late(complete: Complete) -> None:
    async def main() -> None:
        one, two = socket.socketpair()
        with pytest.raises(TimeoutError, match=LATE):
            await kore.socket_wrap(one).send(b"x" * 5_000_000, 10)
        one.close()
        two.close()

    complete(main())


def test_a_peer_that_left_is_runtime_error(complete: Complete) -> None:
    async def main() -> None:
        one, two = socket.socketpair()
        two.close()
        with pytest.raises(RuntimeError, match="socket EOF"):
            await kore.socket_wrap(one).send(b"anybody?")
        one.close()
        closed = socket.create_server(("127.0.0.1", 0))
        address = closed.getsockname()
        closed.close()
        sock = socket.socket()
        with pytest.raises(RuntimeError, match="Connection refused"):
            await kore.socket_wrap(sock).connect(*address)
        sock.close()

    complete(main())


def test_names_are_resolved(complete: Complete) -> None:
    async def main() -> Any:
        listener = socket.create_server(("127.0.0.1", 0))
        sock = socket.socket()
        wrapped = kore.socket_wrap(sock)
        await wrapped.connect("localhost", str(listener.getsockname()[1]))
        peer = sock.getpeername()
        sock.close()
        other = socket.socket()
        with pytest.raises(RuntimeError, match=r"(?i)name"):
            await kore.socket_wrap(other).connect("no.such.host.invalid", 80)
        other.close()
        same = peer == listener.getsockname()
        listener.close()
        return same

    assert complete(main())


def test_abstract_names_and_a_full_backlog(complete: Complete) -> None:
    async def connect(name: str) -> None:
        sock = socket.socket(socket.AF_UNIX)
        await kore.socket_wrap(sock).connect(name)
        sock.close()

    async def accept_all(listener: Any, count: int) -> int:
        await kore.suspend(20)
        for _ in range(count):
            (await listener.accept()).close()
        return count

    async def main() -> Any:
        name = f"gkore-{os.getpid()}"
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(f"\0{name}")
        sock.listen(1)
        result = await kore.gather(accept_all(kore.socket_wrap(sock), 5), *(connect(f"@{name}") for _ in range(5)))
        sock.close()
        return result

    assert complete(main()) == [5, *[None] * 5]


def test_one_receiver_and_one_sender_at_a_time(complete: Complete) -> None:
    async def main() -> Any:
        one, two = socket.socketpair()
        wrapped = kore.socket_wrap(one)

        async def receive() -> Any:
            return await wrapped.recv(10)

        async def send() -> Any:
            return await wrapped.send(b"x" * 1_000_000)

        async def drain() -> None:
            other = kore.socket_wrap(two)
            left = 1_000_000
            while left:
                left -= len(await other.recv(100_000) or b"")
            await other.send(b"done")

        result = await kore.gather(receive(), receive(), send(), send(), drain())
        one.close()
        two.close()
        return result

    first, second, third, fourth, _ = complete(main())
    assert first == b"done"
    assert str(second) == "only one recv operation can be done per socket"
    assert third is None
    assert str(fourth) == "only one send operation can be done per socket"


def test_close_wakes_who_waits_and_refuses_what_follows(complete: Complete) -> None:
    async def main() -> Any:
        one, two = socket.socketpair()
        wrapped = kore.socket_wrap(one)

        async def receive() -> Any:
            return await wrapped.recv(10)

        async def send() -> Any:
            return await wrapped.send(b"x" * 5_000_000)

        async def close() -> None:
            await kore.suspend(1)
            assert wrapped.close()
            assert wrapped.close()

        result = await kore.gather(receive(), send(), close())
        for late in (wrapped.recv(1), wrapped.send(b"x"), wrapped.connect("nowhere")):
            with pytest.raises(RuntimeError, match="Bad file descriptor"):
                await late
        one.close()
        two.close()
        return result

    received, sent, _ = complete(main())
    assert received is None
    assert str(sent) == "socket EOF"


def test_misuse(complete: Complete) -> None:
    sock = socket.socket()
    wrapped = kore.socket_wrap(sock)
    for port in (0, 65536, "http", -1):
        with pytest.raises(RuntimeError, match="invalid port number"):
            wrapped.connect("127.0.0.1", port)
        with pytest.raises(RuntimeError, match=r"invalid port$"):
            wrapped.sendto("127.0.0.1", port, b"x")
    with pytest.raises(TypeError, match="bytes-like"):
        wrapped.send(5)
    with pytest.raises(ValueError, match="negative"):
        wrapped.recv(-1)
    sock.close()
    with socket.socket(socket.AF_UNIX) as unix:
        with pytest.raises(RuntimeError, match="path too long"):
            kore.socket_wrap(unix).connect("x" * 108)
        with pytest.raises(RuntimeError, match="unix socket path too long"):
            kore.socket_wrap(unix).sendto("x" * 108, b"x")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as other, pytest.raises(RuntimeError, match="unsupported"):
        kore.socket_wrap(other)
    with pytest.raises(TypeError, match="takes a socket"):
        kore.socket_wrap(5)  # type: ignore[arg-type]
    one, two = socket.socketpair()
    context = ssl.create_default_context()
    tls = context.wrap_socket(one, server_hostname="x", do_handshake_on_connect=False)
    with tls, pytest.raises(TypeError, match="TLS"):
        kore.socket_wrap(tls)
    two.close()


def test_killed_waiters_leave_no_descriptors(complete: Complete) -> None:
    async def wait(sock: Any) -> None:
        await kore.socket_wrap(sock).recv(10)

    async def main() -> None:
        pairs = [socket.socketpair() for _ in range(20)]
        idents = [kore.task_create(wait(one)) for one, _ in pairs]
        await kore.suspend(1)
        for ident in idents:
            assert kore.task_kill(ident)
        for one, two in pairs:
            one.close()
            two.close()

    complete(main())
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    complete(main())
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
