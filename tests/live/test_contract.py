"""Every example of Kore 3.2's Python reference, on a real server with a conf of that time: see apps/contract.py."""

from __future__ import annotations

import json
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

import pytest
from postgres import postgres
from server import DEADLINE, Server, until
from server import server as server_of
from websockets.sync.client import connect

APP = Path(__file__).parents[1] / "apps/contract.py"
HANDLERS = re.findall(r"^(?:async )?def (\w+)\(req\)", APP.read_text(), re.MULTILINE)
STATIC = "\n".join(f"    static /{handler} {handler}" for handler in HANDLERS)
CONF = f"""
bind 127.0.0.1 0
python_import contract.py
validator v_number regex ^[0-9]+$
domain * {{
{STATIC}
    params get /argument_example {{
        validate id v_number
    }}
}}
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("contract")
    shutil.copy(APP, directory / "contract.py")
    with postgres() as database:
        database.psql("create function pg_delay(seconds int) returns int language sql as 'select $1'")
        env = {"CONTRACT_DSN": database.get_uri(), "PYTHONUNBUFFERED": "1"}
        with server_of(directory, CONF, workers=1, env=env, tracebacks=True, leaks=True) as server:
            yield server


def test_log(up: Server) -> None:
    assert up.get("/log_example").status == 200
    up.says(r"proc=\[wrk 1\] log=\[this is a log string from a worker process\]")


def test_timer(up: Server) -> None:
    before = int(up.get("/timer_called").body)
    assert up.get("/timer_example").status == 200
    assert up.get("/timer_left_alone").body == b"True"
    until(lambda: int(up.get("/timer_called").body) > before, "the timer")
    begun = monotonic()
    until(lambda: monotonic() - begun > 0.15, "the time of the one that was closed")
    assert int(up.get("/timer_called").body) == before + 1


def test_proc(up: Server) -> None:
    answer = up.get("/proc_example")
    assert (answer.status, answer.body[:5]) == (200, b"total")
    assert up.get("/proc_late").status == 500
    up.says("process timed out")


def test_tracer(up: Server) -> None:
    assert up.get("/raises").status == 500
    up.says(r"(?m)^KeyError: 'for the tracer'")


def test_task_create(up: Server) -> None:
    up.says("i am coro 1\n(.*\n)*i am coro 2")


def test_gather(up: Server) -> None:
    assert up.get("/gather_example").status == 200
    up.says("result is None\nresult is None")


def test_suspend(up: Server) -> None:
    begun = monotonic()
    assert up.get("/suspend_example").status == 200
    assert monotonic() - begun >= 1


def test_database(up: Server) -> None:
    assert json.loads(up.get("/myquery").body) == [{"pg_delay": "10"}]


def test_requests(up: Server) -> None:
    assert up.get("/cookie_example", headers={"Cookie": "my_session=abc"}).body == b"abc"
    assert up.get("/cookie_example").body == b"none"
    assert up.get("/response_example").body == b"ok"
    assert up.get("/argument_example?id=5").body == b"5"
    assert up.get("/argument_example?id=x").body == b"none"
    assert up.get("/body_read_example", "POST", body=b"data").body == b"4 data"
    form = b'--x\r\ncontent-disposition: form-data; name="myfile"; filename="f"\r\n\r\ndata\r\n--x--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert up.get("/file_lookup_example", "POST", body=form, headers=headers).body == b"4 data"
    answer = up.get("/myhandler", headers={"X-Request": "mirrored"})
    assert (answer.headers["x-response"], answer.body) == ("mirrored", b"hello world")


def test_websockets(up: Server) -> None:
    url = f"ws://127.0.0.1:{up.port}/ws_connect"
    with connect(url, open_timeout=DEADLINE) as one, connect(url, open_timeout=DEADLINE) as two:
        one.send("to all others")
        assert two.recv(DEADLINE) == "to all others"
    up.says(r"log=\[.*: connected\]")
    up.says(r"log=\[.*: disconnected\]")


def test_sockets(up: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            connection.sendall(connection.recv(100)[::-1])
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        answer = up.get("/page", headers={"X-Port": str(listener.getsockname()[1])})
        thread.join()
    assert answer.body == b"dlrow olleh"
    said = json.loads(up.get("/recv_example").body)
    assert said == ["timed out reading (timeout before operation completed)", "received b'data'", "eof!"]
    assert up.get("/datagram_examples").body == b"Hello world"
    assert up.get("/accept_example").body == b"welcome"
    assert up.get("/unix_example").body == b"welcome"


def test_locks(up: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: up.get("/lock_example").body, range(16)))
    assert answers == [b"ok"] * 16


def test_queues(up: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(up.get, "/pop_example") for _ in range(3)]
        for _ in range(3):
            up.get("/push_example")
        assert [json.loads(answer.result().body) for answer in waiting] == [{"foo": "bar"}] * 3


def test_processes(up: Server) -> None:
    assert json.loads(up.get("/process_examples").body) == ["data", None, 0, 9]


def test_getters_and_constants(up: Server) -> None:
    found = json.loads(up.get("/getters", "POST", body=b"body", headers={"User-Agent": "tester"}).body)
    assert (found["agent"], found["path"], found["body"], found["body_path"]) == ("tester", "/getters", "body", None)
    assert found["host"] == f"127.0.0.1:{up.port}"
    assert found["connection"] == "127.0.0.1"
    assert found["method"] == found["HTTP_METHOD_POST"] == 2


def test_fatal(up: Server) -> None:
    before = up.workers
    with pytest.raises(OSError):
        up.get("/fatal_example")
    up.says("worker going dead")
    until(lambda: up.workers and up.workers != before, "another worker")
    until(lambda: up.get("/response_example").body == b"ok", "an answer of the new worker")
