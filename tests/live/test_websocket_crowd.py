"""Many websockets of several workers: broadcasts, topics, and the end of a server or a worker."""

from __future__ import annotations

import json
import os
import signal

import pytest
from callers import APP, CONF, closed, crowd, dial, hear
from websockets.exceptions import ConnectionClosed


def test_a_broadcast_reaches_everybody_once_but_its_source(server):
    up = server(CONF, app=APP, workers=3)
    with crowd(up, 9, 3) as clients:
        source = clients[0]
        source.send("global")
        source.send("nobody")
        for client in clients[1:]:
            assert hear(client) == "global"
            assert hear(client) == "nobody"
        assert hear(source) == "nobody"
        source.send("local")
        source.send("nobody")
        for client in clients[1:]:
            if client.worker == source.worker:
                assert hear(client) == "local"
            assert hear(client) == "nobody"


def test_a_sender_is_heard_in_order(server):
    up = server(CONF, app=APP, workers=2)
    with crowd(up, 4, 2) as clients:
        for number in range(200):
            for client in clients[:2]:
                client.send(f"{client.local_address[1]} {number}")
        for client in clients[2:]:
            heard = [hear(client).split() for _ in range(400)]
            for source in clients[:2]:
                mine = [number for port, number in heard if port == str(source.local_address[1])]
                assert mine == [str(number) for number in range(200)]


def test_topics(server):
    up = server(CONF, app=APP, workers=2)
    with crowd(up, 4, 2) as clients:
        source, away = clients[0], clients[1]
        away.send("leave")
        assert json.loads(hear(away)) == {"left": True}
        source.send("topic")
        source.send("nobody")
        assert hear(away) == "nobody"
        assert hear(source) == "nobody"
        for client in clients[2:]:
            assert hear(client) == "topic"
            assert hear(client) == "nobody"


def test_a_worker_killed_in_mid_broadcast_takes_nobody_with_it(server):
    up = server(CONF, app=APP, workers=3)
    with crowd(up, 9, 3) as clients:
        victim = clients[-1].worker
        source = next(client for client in clients if client.worker != victim)
        others = [client for client in clients if client.worker != victim and client is not source]
        for number in range(200):
            source.send(f"{number}")
            if number == 100:
                os.kill(victim, signal.SIGKILL)
        for client in others:
            assert [hear(client) for _ in range(200)] == [f"{number}" for number in range(200)]
        late = [client for client in clients if client.worker == victim]
        for client in late:
            with pytest.raises(ConnectionClosed):
                list(client)  # ends with the exception


# The end


def test_a_stop_says_1001(server):
    up = server(CONF, app=APP, workers=2)
    with crowd(up, 6, 2) as clients:
        up.signal(signal.SIGTERM)
        assert {closed(client).code for client in clients} == {1001}
    assert up.ends() == 0


def test_a_reload_says_1012_bit_by_bit_and_goes_on_serving(server):
    up = server(f"worker_drain_time 4\n{CONF}", app=APP, workers=2)
    with crowd(up, 8, 2) as clients:
        up.signal(signal.SIGHUP)
        up.ready(2)
        assert {closed(client).code for client in clients} == {1012}
        with dial(up) as client:
            client.send("new")
            assert hear(client) == "new"
