"""OpenTelemetry: what the SDK's exporter gets for requests to the real server."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from server import REPOSITORY, Server, until

pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk (pip install gkore[test])")

Start = Callable[..., Server]

APP = """
import json
import kore
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()

def kore_worker_configure():
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

def inner(name):
    with trace.get_tracer("app").start_as_current_span(name):
        pass

def plain(req):
    inner("in plain")
    req.response(200, b"")

async def waits(req):
    await kore.suspend(20)
    inner(req.query)
    req.response(200, b"")

def later(req):
    return waits(req)

async def member(name):
    await kore.suspend(1)
    inner(name)

async def gathers(req):
    await kore.gather(member(req.query + " gathered"), member(req.query + " too"))
    kore.task_create(member(req.query + " created"))
    await kore.thread(inner, req.query + " on a thread")
    req.response(200, b"")

def fails(req):
    raise ValueError("on purpose")

def missing(req, name):
    req.response(404, b"")

def spans(req):
    found = [json.loads(span.to_json(indent=None)) for span in exporter.get_finished_spans()]
    req.response(200, json.dumps(found).encode())
"""
ROUTES = (
    "/plain plain",
    "/waits waits",
    "/later later",
    "/gathers gathers",
    "/fails fails",
    "^/missing/(.*)$ missing",
    "/spans spans",
)
CONF = "otel yes\ndomain * {\n" + "".join(f"    route {route}\n" for route in ROUTES) + "}\n"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def spans(up: Server) -> dict[str, Any]:
    return {span["name"]: span for span in json.loads(up.get("/spans").body)}


def test_spans_of_handlers(server: Start) -> None:
    up = server(CONF, app=APP, workers=1, tracebacks=True)
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "user-agent": "test/1"}
    up.get("/plain?x=1", headers=headers)
    up.get("/fails")
    up.get("/missing/thing")
    found = spans(up)
    plain = found["GET /plain"]
    assert plain["kind"] == "SpanKind.SERVER"
    assert plain["context"]["trace_id"] == f"0x{TRACE}"
    assert plain["parent_id"] == f"0x{PARENT}"
    port = plain["attributes"].pop("network.peer.port")
    assert port > 0
    assert plain["attributes"] == {
        "http.request.method": "GET",
        "http.route": "/plain",
        "http.response.status_code": 200,
        "url.path": "/plain",
        "url.query": "x=1",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "network.peer.address": "127.0.0.1",
        "client.address": "127.0.0.1",
        "server.address": "127.0.0.1",
        "server.port": up.port,
        "user_agent.original": "test/1",
    }
    assert found["in plain"]["parent_id"] == plain["context"]["span_id"]
    fails = found["GET /fails"]
    assert fails["status"] == {"status_code": "ERROR", "description": "on purpose"}
    assert fails["attributes"]["http.response.status_code"] == 500
    assert fails["attributes"]["error.type"] == "builtins.ValueError"
    [event] = fails["events"]
    assert event["attributes"]["exception.message"] == "on purpose"
    assert fails["parent_id"] is None
    missing = found["GET ^/missing/(.*)$"]
    assert missing["attributes"]["http.response.status_code"] == 404
    assert missing["status"]["status_code"] == "UNSET"


@pytest.mark.parametrize("path", ["/waits", "/later"])
def test_requests_that_wait_at_once_keep_their_own_spans(server: Start, path: str) -> None:
    up = server(CONF, app=APP, workers=1)
    clients = []
    for number in range(10):
        clients.append(socket.create_connection(("127.0.0.1", up.port), 20))
        clients[-1].sendall(b"GET %b?n%d HTTP/1.1\r\nhost: x\r\n\r\n" % (path.encode(), number))
    for client in clients:
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        client.close()
    every: list[Any] = []
    until(lambda: every.extend(json.loads(up.get("/spans").body)) or len(every) >= 20, "all spans")
    parents = {one["context"]["span_id"]: one for one in every if one["name"] == f"GET {path}"}
    inner = {one["name"]: one for one in every if one["name"].startswith("n")}
    assert len(inner) == 10
    for name, one in inner.items():
        parent = parents[one["parent_id"]]
        assert parent["attributes"]["url.query"] == name
        assert parent["end_time"] >= one["end_time"]


def test_what_a_request_starts_belongs_to_its_trace(server: Start) -> None:
    up = server(CONF, app=APP, workers=1)
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    up.get("/gathers?a", headers=headers)
    up.get("/gathers?b")
    names = [f"{query} {what}" for query in "ab" for what in ("gathered", "too", "created", "on a thread")]
    until(lambda: spans(up).keys() >= set(names), "all spans")
    every = json.loads(up.get("/spans").body)
    requests = {one["context"]["span_id"]: one for one in every if one["name"] == "GET /gathers"}
    for one in every:
        if one["name"] in names:
            request = requests[one["parent_id"]]
            assert request["attributes"]["url.query"] == one["name"][0]
            assert (one["context"]["trace_id"] == f"0x{TRACE}") == (one["name"][0] == "a")


def test_without_the_package_it_is_said_where(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("raise ImportError('not installed')\n")
    (tmp_path / "kore.conf").write_text("bind 127.0.0.1 0\notel yes\n")
    env = {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    command = [sys.executable, "-m", "gkore", "--check", "-c", "kore.conf"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "kore.conf:2" in done.stderr + done.stdout
    assert "pip install gkore[otel]" in done.stderr + done.stdout
