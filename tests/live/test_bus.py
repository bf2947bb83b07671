"""Objects from worker to worker: kore.sendobj and koreapp.onmsg."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection

from server import DEADLINE, Server, until

SCRIPT = """
import json, os
import kore

heard = []

class App:
    def configure(self, args):
        kore.config.workers = 3
        kore.server(ip="127.0.0.1", port="0", tls=False)
        d = kore.domain("*")
        for name in ("tell", "wrong", "flood", "torrent", "who"):
            d.route(f"/{name}", globals()[name])

    async def onmsg(self, thing):
        if thing == "raise":
            raise ZeroDivisionError("in onmsg")
        if isinstance(thing, dict) and "wait" in thing:
            await kore.suspend(thing["wait"])
        heard.append(thing if not isinstance(thing, bytes) else len(thing))

koreapp = App()

def tell(req):
    kore.sendobj(json.loads(req.body))
    req.response(200)

def wrong(req):
    said = []
    for worker in (0, -1, 4, 5, 99):
        try:
            kore.sendobj("x", worker=worker)
        except RuntimeError as failure:
            said.append(str(failure))
    try:
        kore.sendobj(lambda: 0)
    except Exception as failure:
        said.append("pickle")
    try:
        kore.sendobj(bytes(17 * 1024 * 1024))
    except ValueError as failure:
        said.append("large")
    req.response(200, json.dumps(said))

async def torrent(req):
    for number in range(500):
        kore.sendobj(bytes(100_000))
    kore.sendobj("end")
    req.response(200)

async def flood(req):
    for number in range(300):
        kore.sendobj(bytes(100_000), worker=1)
    kore.sendobj("end", worker=1)
    req.response(200)

def who(req):
    req.response(200, json.dumps([kore.worker(), os.getpid(), heard]))
"""


def everybody(up: Server) -> dict[int, list[object]]:
    """What each worker has heard; asks until all three have answered."""
    found: dict[int, list[object]] = {}

    def asked() -> bool:
        number, pid, heard = json.loads(up.get("/who").body)
        found[number] = [pid, heard]
        return len(found) == 3

    until(asked, "three workers")
    return found


def all_heard(up: Server, things: list[object]) -> None:
    until(lambda: all(heard == things for _, heard in everybody(up).values()), lambda: str(everybody(up)))


def test_everybody_hears_also_the_sender_in_order(server):
    up = server(script=SCRIPT, workers=0)
    things = [1, "zwei", {"three": [3, None]}]
    for thing in things:
        assert up.get("/tell", "POST", body=json.dumps(thing)).status == 200
    until(lambda: all(len(heard) == 3 for _, heard in everybody(up).values()), "all objects")
    for _, heard in everybody(up).values():
        assert sorted(map(str, heard)) == sorted(map(str, things))


def test_an_object_that_waits_holds_up_no_other(server):
    up = server(script=SCRIPT, workers=0)
    up.get("/tell", "POST", body=json.dumps({"wait": 300}))
    up.get("/tell", "POST", body='"quick"')
    all_heard(up, ["quick", {"wait": 300}])


def test_a_receiver_that_raises_goes_on_receiving(server):
    up = server(script=SCRIPT, workers=0, tracebacks=True)
    pids = {pid for pid, _ in everybody(up).values()}
    up.get("/tell", "POST", body='"raise"')
    up.get("/tell", "POST", body='"after"')
    all_heard(up, ["after"])
    assert {pid for pid, _ in everybody(up).values()} == pids
    assert up.log().count("ZeroDivisionError: in onmsg") == 3


def test_what_can_not_be_sent_is_refused(server):
    up = server(script=SCRIPT, workers=0)
    assert json.loads(up.get("/wrong").body) == [
        "worker 0 invalid",
        "worker -1 invalid",
        "worker 4 invalid",
        "worker 5 invalid",
        "worker 99 invalid",
        "pickle",
        "large",
    ]
    all_heard(up, [])


def test_thirty_megabytes_arrive_whole_and_in_order(server):
    up = server(script=SCRIPT, workers=0)
    assert up.get("/flood").status == 200
    until(lambda: "end" in everybody(up)[1][1], "the end of the flood")
    assert everybody(up)[1][1] == [100_000] * 300 + ["end"]
    assert everybody(up)[2][1] == everybody(up)[3][1] == []


def test_a_worker_that_hangs_keeps_nobody_from_talking(server):
    up = server(script=SCRIPT, workers=0)
    pid = everybody(up)[1][0]
    with on_worker(up, 2) as ask:
        os.kill(pid, signal.SIGSTOP)
        try:
            assert ask("/torrent") is None
            until(lambda: ask("/who")[2][-1:] == ["end"], "the end of the torrent")
            assert ask("/who")[2] == [100_000] * 500 + ["end"]
        finally:
            os.kill(pid, signal.SIGCONT)
    until(lambda: everybody(up)[1][1], "the worker that hung")
    heard = everybody(up)[1][1]
    assert 0 < len(heard) < 500, "the master keeps 32 MiB for a worker that does not read"


@contextmanager
def on_worker(up: Server, number: int) -> Iterator[Callable[[str], object]]:
    """Asks one particular worker, over a connection that is kept."""
    with ExitStack() as stack:
        while True:
            client = HTTPConnection("127.0.0.1", up.port, timeout=DEADLINE)
            stack.callback(client.close)

            def ask(path: str, client: HTTPConnection = client) -> object:
                client.request("GET", path)
                return json.loads(client.getresponse().read() or "null")

            if ask("/who")[0] == number:
                yield ask
                return
