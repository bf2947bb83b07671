"""Listening sockets: one a slot and TCP address, one a UNIX address, clear refusals."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gkore.conf.site import Bind, Place, Server
from gkore.errors import StartError
from gkore.master.listeners import Listeners

PLACE = Place("kore.conf", 7, 1)


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    made = Listeners(16)
    yield made
    made.close()
    made.unlink()


def server(*binds: tuple[str, str, str]) -> Server:
    return Server("default", [Bind(*bind, place=PLACE) for bind in binds])


def test_port_0_is_one_port_for_all_slots(listeners: Listeners) -> None:
    [address] = listeners.open([server(("127.0.0.1", "0", ""))], 3)
    ports = {sock.getsockname()[1] for sock in listeners.sockets()}
    assert len(list(listeners.sockets())) == 3
    assert ports == {int(address.bind.port)}
    assert ports != {0}
    assert address.declared.port == "0"


def test_every_slot_gets_connections_and_nodelay_is_inherited(listeners: Listeners) -> None:
    [address] = listeners.open([server(("127.0.0.1", "0", ""))], 2)
    served: set[int] = set()
    for sock in listeners.sockets():
        sock.setblocking(False)
    clients = []
    for _ in range(1000):
        clients.append(socket.create_connection(("127.0.0.1", int(address.bind.port))))
        for number, sock in address.sockets.items():
            try:
                accepted, _ = sock.accept()
            except BlockingIOError:
                continue
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            served.add(number)
            accepted.close()
        if served == {1, 2}:
            break
    for client in clients:
        client.close()
    assert served == {1, 2}


def test_a_mute_slot_has_no_socket() -> None:
    listeners = Listeners(16, frozenset({2}))
    listeners.open([server(("127.0.0.1", "0", ""))], 3)
    assert list(listeners.addresses[0].sockets) == [1, 3]
    assert listeners.of(frozenset()) == []
    listeners.close()


def test_a_worker_may_serve_several_slots(listeners: Listeners, tmp_path: Path) -> None:
    listeners.open([server(("127.0.0.1", "0", ""), ("", "", str(tmp_path / "sock")))], 3)
    assert [listener.bind.path != "" for listener in listeners.of({1})] == [False, True]
    assert [listener.bind.path != "" for listener in listeners.of({1, 3})] == [False, False, True]


def test_new_slots_join_the_port(listeners: Listeners) -> None:
    [address] = listeners.open([server(("127.0.0.1", "0", ""))], 1)
    listeners.widen(3)
    assert {sock.getsockname()[1] for sock in address.sockets.values()} == {int(address.bind.port)}
    assert list(address.sockets) == [1, 2, 3]


def test_only_new_addresses_are_opened(listeners: Listeners) -> None:
    declared = server(("127.0.0.1", "0", ""))
    assert len(listeners.open([declared], 1)) == 1
    declared.binds.append(Bind("127.0.0.1", "0", place=PLACE))
    assert [address.declared for address in listeners.open([declared], 1)] == declared.binds[1:]


def test_ipv6_literal_leaves_ipv4_alone(listeners: Listeners) -> None:
    [address] = listeners.open([server(("::1", "0", ""))], 1)
    assert address.sockets[1].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    assert str(address.bind).startswith("[::1]:")


def test_a_port_in_use_is_refused_although_its_owner_shares_it(listeners: Listeners) -> None:
    [address] = listeners.open([server(("127.0.0.1", "0", ""))], 2)  # SO_REUSEPORT, same user: the kernel would let us
    with pytest.raises(StartError, match=r"^kore.conf:7:1: can't listen on 127.0.0.1:\d+: the address is in use"):
        Listeners(16).open([server(("127.0.0.1", address.bind.port, ""))], 2)


@pytest.mark.parametrize(
    ("bind", "text"),
    [
        (("192.0.2.1", "0", ""), "this machine has no such address"),
        (("no such host", "80", ""), "give an address of this machine"),
        (("127.0.0.1", "no-such-service", ""), "give an address of this machine"),
        (("", "", "/no/such/directory/sock"), "the directory does not exist"),
        (("", "", "/tmp/" + "x" * 200), "too long"),
    ],
)
def test_refusals_are_one_line_with_a_place(bind: tuple[str, str, str], text: str) -> None:
    with pytest.raises(StartError) as refused:
        Listeners(16).open([server(bind)], 1)
    message = str(refused.value)
    assert message.startswith("kore.conf:7:1: can't listen on ")
    assert text in message
    assert "\n" not in message


def test_unix_socket_is_shared_open_to_all_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    listeners = Listeners(16)
    listeners.open([server(("", "", str(path)))], 3)
    assert len(list(listeners.sockets())) == 1
    assert path.stat().st_mode & 0o777 == 0o666
    listeners.close()
    listeners.unlink()
    assert not path.exists()


def test_a_stale_unix_socket_is_replaced_a_living_one_not(tmp_path: Path, listeners: Listeners) -> None:
    path = tmp_path / "sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    listeners.open([server(("", "", str(path)))], 1)
    with pytest.raises(StartError, match="the address is in use"):
        Listeners(16).open([server(("", "", str(path)))], 1)
    assert path.exists()


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    path.write_text("precious")
    with pytest.raises(StartError, match="a file that is no socket is in the way"):
        Listeners(16).open([server(("", "", str(path)))], 1)
    assert path.read_text() == "precious"


def test_somebody_elses_socket_file_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    listeners = Listeners(16)
    listeners.open([server(("", "", str(path)))], 1)
    path.rename(tmp_path / "old")
    path.write_text("another server's")
    listeners.close()
    listeners.unlink()
    assert path.exists()


def test_abstract_unix_socket(listeners: Listeners) -> None:
    name = f"@gkore-test-{os.getpid()}"
    listeners.open([server(("", "", name))], 1)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + name[1:])
