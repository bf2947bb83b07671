"""Host and path to route: Kore's order, decided at boot where it can be."""

from __future__ import annotations

import re

import pytest

from gkore.conf.settings import Settings
from gkore.conf.site import ALL_METHODS, METHODS, Domain, Redirect, Route, Site
from gkore.errors import ProtocolError
from gkore.protocol.line import read_line
from gkore.worker.planner import Planner
from gkore.worker.routing import Hosts


def planner() -> Planner:
    return Planner(Site(), Settings(), 1)


def route(path: str, name: str, methods: str = "") -> Route:
    bits = sum(METHODS[method] for method in methods.split()) or ALL_METHODS
    pattern = None if path.startswith("/") else re.compile(path)
    return Route(path, pattern, handler=lambda *_: None, handler_name=name, methods=bits)


def find(domain: Domain, line: str):
    host = Hosts([domain], planner()).find(b"localhost")
    action = host.find(read_line(f"{line} HTTP/1.1".encode()))
    assert host.find(read_line(f"{line} HTTP/1.1".encode())).name == action.name, "asked twice, answered twice"
    return action


@pytest.mark.parametrize(
    ("line", "name", "status", "groups"),
    [
        ("GET /", "root", 0, ()),
        ("GET /?a=b", "root", 0, ()),
        ("POST /split", "writer", 0, ()),
        ("GET /split", "reader", 0, ()),
        ("DELETE /split", "", 405, ()),
        ("GET /nowhere", "", 404, ()),
        ("GET /user/7", "user", 0, ("7",)),
        ("GET /user/7/x", "user", 0, ("7",)),
        ("GET /shadowed", "early", 0, ()),
        ("GET /late", "late", 0, ()),
        ("GET /old/a/b", "", 301, ()),
        ("GET /gone", "", 410, ()),
        ("OPTIONS *", "", 200, ()),
    ],
)
def test_order(line: str, name: str, status: int, groups: tuple[str, ...]) -> None:
    domain = Domain(
        "*",
        routes=[
            route("/", "root"),
            route("/split", "reader", "get head"),
            route("/split", "writer", "post"),
            route("^/user/([0-9]+)", "user"),
            route("^/shadow", "early"),
            route("/shadowed", "never"),
            route("/late", "late"),
            route("^/late$", "never"),
        ],
        redirects=[
            Redirect(re.compile("^/old/(.*)$"), 301, "/new/$1?$qs"),
            Redirect(re.compile("^/gone$"), 410),
        ],
    )
    action = find(domain, line)
    assert (action.name, action.status, tuple(action.groups)) == (name, status, groups)


def test_405_names_what_is_allowed() -> None:
    action = find(Domain("*", routes=[route("/", "a", "get"), route("/", "b", "put")]), "POST /")
    assert action.headers == (("allow", "GET, PUT"),)


@pytest.mark.parametrize(
    ("line", "location"),
    [("GET /old/x", "/new/x?"), ("GET /old/x?a=1", "/new/x?a=1"), ("GET /old/", "/new/?")],
)
def test_redirect_target(line: str, location: str) -> None:
    domain = Domain("*", redirects=[Redirect(re.compile("^/old/(.*)$"), 302, "/new/$1?$qs")])
    assert find(domain, line).headers == (("location", location),)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (b"one.example", "one.example"),
        (b"ONE.example:8080", "one.example"),
        (b"a.two.example", "*.two.example"),
        (b"[::1]:80", "[[]*"),
        (b"elsewhere", "*"),
        (None, "*"),
    ],
)
def test_first_domain_that_matches_wins(field: bytes | None, name: str) -> None:
    names = ("one.example", "*.two.example", "[[]*", "*", "elsewhere")
    hosts = Hosts([Domain(name) for name in names], planner())
    assert hosts.find(field).name == name


@pytest.mark.parametrize(
    ("field", "status"),
    [(b"other.example", 404), (b"a b", 400), (b"a/b", 400), (b"a@b", 400), (b"", 400), (b"x" * 300, 400)],
)
def test_hosts_that_nobody_serves(field: bytes, status: int) -> None:
    with pytest.raises(ProtocolError) as refusal:
        Hosts([Domain("one.example")], planner()).find(field)
    assert refusal.value.status == status


def test_tables_are_bounded() -> None:
    hosts = Hosts([Domain("*", routes=[route("^/", "any")])], planner())
    for number in range(5000):
        host = hosts.find(b"h%d" % number)
        host.find(read_line(b"GET /%d HTTP/1.1" % number))
    assert len(hosts.known) <= 1024
    assert len(host.known) <= 1024
