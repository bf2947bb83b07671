"""The master's own doors: nobody who comes through one keeps it waiting."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from select import poll

import pytest

from gkore.master.door import Caller, Door, Policy


@pytest.fixture
def doors() -> Iterator[list[Door]]:
    made: list[Door] = []
    yield made
    for door in made:
        for sock in list(door.sockets()):
            sock.close()


def opened(doors: list[Door], newest: bool, answer: bytes = b"") -> Door:
    def heard(caller: Caller) -> None:
        if caller.said.endswith(b"\n"):
            caller.answer(answer)

    door = Door(heard, Policy(callers=2, asked=100, newest=newest))
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    door.open(sock)
    doors.append(door)
    return door


def turn(door: Door, milliseconds: int = 5000) -> None:
    """One turn of a loop as the master's."""
    waiter = poll()
    sources = {source.fileno(): source for source in door.sources()}
    for descriptor, source in sources.items():
        waiter.register(descriptor, source.events)
    for descriptor, events in waiter.poll(milliseconds):
        if sources[descriptor].fileno() == descriptor:
            sources[descriptor].act(events)


def knock(door: Door) -> socket.socket:
    assert door.sock is not None
    client = socket.create_connection(door.sock.getsockname(), 20)
    turn(door)
    return client


def test_an_answer_larger_than_any_buffer_arrives_whole(doors: list[Door]) -> None:
    answer = bytes(range(256)) * 64 * 1024
    door = opened(doors, newest=False, answer=answer)
    with knock(door) as client:
        client.sendall(b"give")
        turn(door)
        client.sendall(b"\n")
        turn(door)
        assert door.callers, "a buffer took 16 MiB: the test shows nothing"
        client.setblocking(False)
        got = bytearray()
        while door.callers or len(got) < len(answer):
            turn(door, 0)
            try:
                piece = client.recv(1 << 20)
            except BlockingIOError:
                continue
            assert piece
            got += piece
    assert got == answer


def test_who_asks_too_much_or_nothing_is_hung_up_on(doors: list[Door]) -> None:
    door = opened(doors, newest=False)
    with knock(door) as greedy, knock(door) as silent:
        greedy.sendall(b"x" * 101)
        while len(door.callers) == 2:
            turn(door)
        assert greedy.recv(1) == b""
        door.tick(door.callers[0].deadline + 1)
        assert silent.recv(1) == b""


@pytest.mark.parametrize("newest", [False, True])
def test_a_crowd_is_refused_or_makes_room(doors: list[Door], newest: bool) -> None:
    door = opened(doors, newest)
    with knock(door) as first, knock(door), knock(door) as third:
        gone = first if newest else third
        assert gone.recv(1) == b""
        assert len(door.callers) == 2


def test_who_waits_is_handed_on(doors: list[Door]) -> None:
    door = opened(doors, newest=False)
    with knock(door) as waiting, knock(door):
        door.callers[0].wait()
        entry = door.bequeath()
        assert len(entry["waiting"]) == 1
        heir = Door(lambda caller: None, door.policy)
        door.callers[0].sock.detach()
        assert door.sock is not None
        door.sock.detach()
        door.sock = None
        doors.append(heir)
        heir.inherit(entry)
        heir.callers[0].answer(b"done")
        assert waiting.recv(10) == b"done"


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_descriptors_one_caller_is_heard_and_the_others_wait(
    doors: list[Door], capfd: pytest.CaptureFixture[str]
) -> None:
    door = opened(doors, newest=False, answer=b"yes")
    assert door.sock is not None
    with socket.socket() as first, socket.socket() as second:
        for client in (first, second):
            client.connect(door.sock.getsockname())
        with no_descriptor_left():
            turn(door)  # the reserve's
            assert len(door.callers) == 1
            turn(door)  # who waits would wake the loop on every turn
            assert list(door.sources()) == door.callers
            first.sendall(b"?\n")
            turn(door)
            assert first.recv(10) == b"yes"
            while door not in door.sources():
                turn(door, 100)
            turn(door)  # the reserve's again
            second.sendall(b"?\n")
            turn(door)
            assert second.recv(10) == b"yes"
    assert capfd.readouterr().err.count("too many open files") == 1
    assert not doors[0].callers
