"""kore.server, kore.domain, @kore.route and their like: what they declare and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gkore.api import site as kore
from gkore.conf.application import Application, adopt
from gkore.conf.inspection import inspect
from gkore.conf.site import METHODS


@pytest.fixture
def application() -> Application:
    return adopt(Application())


def handler(req: Any, *groups: str) -> None:
    """A page."""


def plain() -> kore.Domain:
    kore.server("default", ip="127.0.0.1", port="0", tls=False)
    return kore.domain("*", attach="default")


def test_a_server_by_position_and_by_keyword(application: Application) -> None:
    kore.server("one", ip="127.0.0.1", port="8888", tls=False)
    kore.server(name="two", path="/tmp/sock")
    one, two = application.site.servers.values()
    assert (str(one.binds[0]), one.tls) == ("127.0.0.1:8888", False)
    assert (str(two.binds[0]), two.tls) == ("unix:/tmp/sock", True)
    assert Path(one.place.file).name == "test_site_api.py"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: kore.server(), "missing keyword args"),
        (lambda: kore.server(port="1"), "missing ip or path keywords"),
        (lambda: kore.server(ip="::1", path="/x", port="1"), "ip/path are exclusive"),
        (lambda: kore.server("new", ip="::1"), "missing or invalid 'port' keyword"),
        (lambda: kore.server("new", ip="::1", port="http"), "missing or invalid 'port' keyword"),
        (lambda: kore.server("new", ip="::1", port="65536"), "missing or invalid 'port' keyword"),
        (lambda: kore.server("default", ip="::1", port="1"), "server 'default' already exist"),
        (lambda: kore.domain("*", attach="nix"), "server 'nix' does not exist"),
        (lambda: kore.domain("*"), "domain exists"),
        (lambda: kore.domain("a", attach="tls"), "no keywords for TLS enabled domain a"),
        (lambda: kore.domain("a", attach="tls", key="k"), "missing key or cert keywords for TLS listener"),
        (lambda: kore.domain("a", attach="tls", key="k", cert="c", verify_depth=-1), "invalid depth '-1'"),
        (lambda: kore.privsep("cook"), "unknown privsep process 'cook'"),
        (lambda: kore.privsep("worker", skip="chroot"), "privsep skip keyword needs to be a list"),  # type: ignore[arg-type]
        (lambda: kore.privsep("worker", skip=["x"]), "unknown skip keyword 'x'"),
    ],
)
def test_refusals_in_kores_words(application: Application, call: Callable[[], object], said: str) -> None:
    plain()
    kore.server("tls", ip="::1", port="0")
    with pytest.raises(RuntimeError) as caught:
        call()
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"methods": "get"}, "methods not a list"),
        ({"methods": ["gte"]}, "unknown HTTP method: gte"),
        ({"methods": ["get"], "get": {"a": "("}}, "Invalid regex (()"),
        ({"methods": ["get"], "get": {"a": 3}}, "validator 'a' must be regex or function"),
        ({"auth": {}}, "missing or invalid 'type' keyword"),
        ({"auth": {"type": "x", "value": "v", "verify": handler}}, "invalid 'type' (x) in auth dictionary for '/'"),
        ({"auth": {"type": "cookie", "verify": handler}}, "missing or invalid 'value' keyword"),
        ({"auth": {"type": "cookie", "value": "v"}}, "missing 'verify' in auth dictionary for '/'"),
        ({"hooks": {"on_headers": 3}}, "on_headers for a route not callable"),
    ],
)
def test_routes_refuse_in_kores_words(application: Application, keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        plain().route("/", handler, **keywords)
    assert str(caught.value).startswith(said)


def test_a_route_with_everything(application: Application) -> None:
    plain().route(
        "^/u/([a-z]+)$",
        handler,
        methods=["get", "POST"],
        get={"id": "^[0-9]+$"},
        post={"name": handler},
        qs={"page": "x"},
        auth={"type": "header", "value": "x-key", "verify": handler, "redirect": "/login"},
        hooks={"on_free": handler},
        timeout=5,
    )
    (route,) = application.site.domains[0].routes
    both = METHODS["get"] | METHODS["post"] | METHODS["head"]
    assert route.methods == both, "get adds head"
    assert route.pattern is not None
    assert route.pattern.groups == 1
    assert [(one.name, one.methods, one.query) for one in route.params] == [
        ("id", METHODS["get"], True),
        ("name", METHODS["post"], False),
        ("page", both, True),
    ]
    assert route.authentication is not None
    assert (route.authentication.kind, route.authentication.uri) == ("header", "/login")
    assert route.on_free is handler
    assert route.options == {"timeout": 5}


def test_the_same_path_with_other_methods_is_another_route(application: Application) -> None:
    domain = plain()
    domain.route("/", handler, methods=["get"])
    domain.route("/", handler, methods=["post"])
    with pytest.raises(RuntimeError, match="duplicate route for '/'"):
        domain.route("/", handler)


def test_unknown_keywords_name_the_nearest(application: Application) -> None:
    with pytest.raises(TypeError, match="did you mean 'methods'"):
        plain().route("/", handler, method=["get"])


def test_decorated_routes_wait_for_the_start(application: Application) -> None:
    assert kore.route("/", methods=["get"])(handler) is handler
    kore.route("/b", domain="b.example")(handler)
    kore.server(ip="::1", port=0, tls=False)
    kore.domain("a.example")
    kore.domain("b.example")
    found = [one.message for one in inspect(application)]
    assert found == ["ambiguous domain on route, please specify one"]
    assert [[route.path for route in domain.routes] for domain in application.site.domains] == [[], ["/b"]]


def test_a_decorated_route_of_an_unknown_domain(application: Application) -> None:
    plain()
    kore.route("/", domain="nix")(handler)
    (mistake,) = inspect(application)
    assert mistake.message == "domain 'nix' does not exist"
    assert "kore.route" in mistake.source


def test_a_domain_on_several_servers_gets_its_routes_on_each(application: Application) -> None:
    for name in ("one", "two"):
        kore.server(name, ip="::1", port=0, tls=False)
        kore.domain("x", attach=name)
    kore.route("/", domain="x")(handler)
    assert list(inspect(application)) == []
    assert [len(domain.routes) for domain in application.site.domains] == [1, 1]


def test_files_redirects_and_logs_of_a_domain(application: Application, tmp_path: Path) -> None:
    domain = plain()
    verify = {"type": "cookie", "value": "v", "verify": handler}
    domain.filemaps({"/a/": str(tmp_path), "/b/": (str(tmp_path), verify)})
    domain.redirect("^/old$", 301, "/new")
    domain.accesslog = "-"
    declared = application.site.domains[0]
    assert [bool(one.authentication) for one in declared.filemaps] == [False, True]
    assert declared.redirects[0].target == "/new"
    with pytest.raises(RuntimeError, match=r"domain \* accesslog already set"):
        domain.accesslog = "x"
    with pytest.raises(RuntimeError, match="invalid status code on redirect"):
        domain.redirect("^/x", 200, "/y")
    with pytest.raises(RuntimeError, match="cannot create filemap"):
        domain.filemaps({"/c": "x"})


def test_privsep(application: Application) -> None:
    kore.privsep("worker", root="/tmp", runas="root", skip=["chroot"])
    found = application.site.privsep("worker")
    assert (found.root, found.runas, found.skip) == ("/tmp", "root", {"chroot"})


def test_app_keeps_one_object() -> None:
    thing = object()
    assert kore.app(thing) is True
    assert kore.app() is thing
