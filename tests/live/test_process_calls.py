"""What an application says about its own processes: names, addresses, the end of the server."""

from __future__ import annotations

from pathlib import Path
from urllib.request import urlopen

import pytest
from server import DEADLINE, until

APP = """
import kore

seen = []

def kore_parent_configure(args):
    kore.listen("127.0.0.1", "0", "greet")
    try:
        kore.shutdown()
    except RuntimeError as failure:
        kore.log(kore.LOG_NOTICE, str(failure))

def greet(connection):
    seen.append(connection.addr)

def greeted(req):
    req.response(200, ",".join(seen))

def rename(req):
    kore.setname("teller")
    kore.log(kore.LOG_NOTICE, "here I am")
    req.response(200)

def shutdown(req):
    req.response(200, str(kore.shutdown()))

def fatalx(req):
    kore.fatalx("the database is gone")

def loaded(action):
    kore.log(kore.LOG_NOTICE, f"loaded {action == kore.MODULE_LOAD}, unloaded {action == kore.MODULE_UNLOAD}")
"""
CONF = (
    "python_import app.py loaded\ndomain * {\n"
    + "".join(f"    static /{name} {name}\n" for name in ("greeted", "rename", "shutdown", "fatalx"))
    + "}\n"
)


def test_an_address_of_kore_parent_configure_shows_its_connections(server):
    up = server(CONF, app=APP, workers=1)
    assert len(up.ports) == 2
    assert up.get("/greeted").text == ""
    for _ in range(2):
        urlopen(f"http://127.0.0.1:{up.ports[1]}/greeted", timeout=DEADLINE).close()
    assert up.get("/greeted").text == "127.0.0.1,127.0.0.1"
    assert "kore.shutdown: called from parent" in up.log()


def test_a_worker_that_renames_itself(server):
    up = server(CONF, app=APP, workers=1)
    assert up.get("/rename").status == 200
    up.says(r"proc=\[teller\] log=\[here I am\]")
    assert Path(f"/proc/{up.workers[0]}/cmdline").read_bytes().rstrip(b"\0") == b"teller"


def test_the_onload_of_a_module_hears_of_reloads(server):
    up = server(CONF, app=APP, workers=1)
    assert up.log().count("loaded True, unloaded False") == 1
    up.reload()
    until(lambda: up.log().count("loaded False, unloaded True") == 1, up.log)
    assert up.log().count("loaded True, unloaded False") == 2


def test_shutdown_stops_the_server_when_the_request_is_answered(server):
    up = server(CONF, app=APP, workers=2)
    assert up.get("/shutdown").text == "True"
    assert up.ends() == 0
    assert "called kore.shutdown" in up.log()


def test_fatalx_stops_the_server_with_status_1(server):
    up = server(CONF, app=APP, workers=2, status=1)
    with pytest.raises(OSError):
        up.get("/fatalx")
    assert up.ends() == 1
    assert "log=[the database is gone]" in up.log()
    assert "called kore.fatalx" in up.log()
