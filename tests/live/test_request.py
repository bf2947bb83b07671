"""What handlers see of a request: parameters, cookies, authentication, prerequest functions; both dialects."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest
from server import Server
from server import server as server_of

APP = """
import json
import kore

def say(req, *names):
    req.response_header("content-type", "application/json")
    req.response(200, json.dumps({name: req.argument(name) for name in names}))

def page(req):
    req.populate_get()
    req.populate_post()
    say(req, "id", "name", "even", "slow", "undeclared")

def cookies(req):
    req.populate_cookies()
    req.response(200, json.dumps({name: req.cookie(name) for name in ("a", "B", "none")}))

def untouched(req):
    req.response(200, json.dumps([req.argument("id"), req.cookie("a"), req.file_lookup("f")]))

def is_even(req, value):
    return int(value) % 2 == 0           # raises for what is no number: counts as no

async def slow_check(req, value):
    await kore.suspend(1)
    return kore.RESULT_OK if value == "good" else kore.RESULT_ERROR

def odd_answer(req, value):
    return "yes"                         # neither True nor 1

def secret(req):
    req.response(200, b"come in")

def token(req, value):
    if value == "boom":
        raise ValueError(value)
    return value == "letmein"

async def async_token(req, value):
    await kore.suspend(1)
    return value == "letmein"

def old_request(req, same):
    return req is same and req.request_header("x-pass") == "yes"

def new_request(req):
    return req.request_header("x-pass") == "yes"

def answers_itself(req):
    req.response(418, b"teapot")
    return False

asked = []

def retried(req, value):
    asked.append(value)
    return kore.RESULT_RETRY if len(asked) % 3 else kore.RESULT_OK

def captures(req, *groups):
    req.response(200, "|".join(groups))
"""

CONF = """
validator v_id regex ^[0-9]+$
validator v_name regex ^[a-z=+/ ]+$
validator v_even function is_even
validator v_slow function slow_check
validator v_odd function odd_answer
validator v_token function token
validator v_async function async_token
validator v_old function old_request
validator v_new function new_request
validator v_itself function answers_itself
validator v_retried function retried
validator v_regex regex ^letmein$

authentication by_cookie {
    authentication_type cookie
    authentication_value session
    authentication_validator v_token
}
authentication by_cookie_elsewhere {
    authentication_type cookie
    authentication_value session
    authentication_validator v_async
    authentication_uri /login
}
authentication by_header {
    authentication_type header
    authentication_value x-token
    authentication_validator v_regex
}
authentication by_old {
    authentication_type request
    authentication_validator v_old
}
authentication by_new {
    authentication_type request
    authentication_validator v_new
}
authentication by_itself {
    authentication_type request
    authentication_validator v_itself
}
authentication by_retry {
    authentication_type header
    authentication_value x-token
    authentication_validator v_retried
}

domain * {
    static / page
    static /cookies cookies
    static /untouched untouched
    static /cookie secret by_cookie
    static /elsewhere secret by_cookie_elsewhere
    static /header secret by_header
    static /old secret by_old
    static /new secret by_new
    static /itself secret by_itself
    static /retry secret by_retry
    dynamic ^/plain/([a-z]+)$ captures
    params qs:get / {
        validate id v_id
        validate name v_name
        validate even v_even
        validate slow v_slow
    }
    params post / {
        validate id v_id
        validate name v_name
        validate odd v_odd
    }
    params qs:post / {
        validate even v_even
    }
    params put / {
        validate id v_id
    }
    route ^/both/([a-z]+)/([0-9]+)?$ captures
}
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_of(tmp_path_factory.mktemp("request"), CONF, app=APP, workers=1, tracebacks=True) as running:
        yield running


def found(answer) -> dict[str, str]:
    assert answer.status == 200, answer
    return {name: value for name, value in json.loads(answer.body).items() if value is not None}


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("id=5", {"id": "5"}),
        ("id=x", {}),
        ("id=5&id=6", {"id": "5"}),
        ("id=x&id=6", {"id": "6"}),
        ("undeclared=1&id=7", {"id": "7"}),
        ("name=a%3Db", {"name": "a=b"}),
        ("name=a=b", {"name": "a=b"}),
        ("name=a+b", {"name": "a b"}),
        ("name=a%2Bb", {"name": "a+b"}),
        ("name=%61", {"name": "a"}),
        ("name=%2561", {}),
        ("name=", {}),
        ("name", {}),
        ("name=%zz", {}),
        ("name=a%00", {}),
        ("even=4", {"even": "4"}),
        ("even=3", {}),
        ("even=none", {}),
        ("slow=good", {"slow": "good"}),
        ("slow=bad", {}),
        ("", {}),
    ],
)
def test_query_parameters(up, query: str, kept: dict[str, str]) -> None:
    assert found(up.get(f"/?{query}")) == kept


def test_a_base64_value_survives(up) -> None:
    value = base64.b64encode(b"????>>>").decode().lower()
    assert found(up.get(f"/?name={quote(value)}")) == (
        {"name": value} if value.strip("abcdefghijklmnopqrstuvwxyz=+/ ") == "" else {}
    )


FORM = {"content-type": "application/x-www-form-urlencoded"}


def test_form_parameters(up) -> None:
    body = urlencode({"id": "5", "name": "a b", "even": "4", "odd": "1", "slow": "good"})
    assert found(up.get("/", "POST", body=body, headers=FORM)) == {"id": "5", "name": "a b"}
    assert found(up.get("/?even=4&id=9", "POST", body="id=5", headers=FORM)) == {"id": "5", "even": "4"}
    assert found(up.get("/?id=9", "PUT", body="id=5", headers=FORM)) == {"id": "5"}
    assert found(up.get("/", "POST", body="id=" + "5" * 100_000, headers=FORM)) == {"id": "5" * 100_000}


def test_nothing_is_parsed_unasked(up) -> None:
    assert json.loads(up.get("/untouched?id=5", headers={"cookie": "a=1"}).body) == [None, None, None]


def test_too_many_parameters_are_refused(up) -> None:
    assert up.get("/?" + "&".join(f"p{n}=1" for n in range(1001)), headers={}).status == 400
    body = "&".join(f"p{n}=1" for n in range(10_000))
    assert up.get("/", "POST", body=body, headers=FORM).status == 400
    assert up.get("/", "POST", body="&" * 1_000_000, headers=FORM).status == 200


def test_names_that_would_collide_cost_nothing(up) -> None:
    names = [f"{n:0>12}" for n in range(999)]
    assert up.get("/", "POST", body="&".join(f"{name}=1" for name in names), headers=FORM).status == 200


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("a=1; b=2", ["1", "2", None]),
        ("A=1", ["1", None, None]),
        ('a="x=y"', ['"x=y"', None, None]),
        ("a=; b", [None, None, None]),
        ("ab=1; xa=2", [None, None, None]),
        ("a=\xff\xfe", ["\xff\xfe", None, None]),
        (";;; =; a=1", ["1", None, None]),
    ],
)
def test_cookies(up, header: str, kept: list[str | None]) -> None:
    answer = up.get("/cookies", headers={"cookie": header.encode("latin-1")})
    assert list(json.loads(answer.body).values()) == kept


@pytest.mark.parametrize(
    ("path", "headers", "status", "location"),
    [
        ("/cookie", {"cookie": "session=letmein"}, 200, None),
        ("/cookie", {"cookie": "session=no"}, 403, None),
        ("/cookie", {"cookie": "session=boom"}, 403, None),
        ("/cookie", {"cookie": "session_other=letmein"}, 403, None),
        ("/cookie", {"cookie": "sess=letmein"}, 403, None),
        ("/cookie", {"cookie": "x=1; session=letmein"}, 200, None),
        ("/cookie", {}, 403, None),
        ("/elsewhere", {"cookie": "session=letmein"}, 200, None),
        ("/elsewhere", {"cookie": "session=no"}, 302, "/login"),
        ("/elsewhere", {}, 302, "/login"),
        ("/header", {"x-token": "letmein"}, 200, None),
        ("/header", {"X-TOKEN": "letmein2"}, 403, None),
        ("/header", {}, 403, None),
        ("/old", {"x-pass": "yes"}, 200, None),
        ("/old", {}, 403, None),
        ("/new", {"x-pass": "yes"}, 200, None),
        ("/new", {}, 403, None),
        ("/itself", {}, 418, None),
        ("/retry", {"x-token": "1"}, 200, None),
    ],
)
def test_authentication(up, path: str, headers: dict[str, str], status: int, location: str | None) -> None:
    answer = up.get(path, headers=headers)
    assert (answer.status, answer.headers["location"]) == (status, location)
    assert (answer.body == b"come in") == (status == 200)


def test_captures(up) -> None:
    assert up.get("/both/ab/12").text == "ab|12"
    assert up.get("/both/ab/").text == "ab"
    assert up.get("/plain/ab").text == ""


SCRIPT = """
import kore

kore.server(ip="127.0.0.1", port="0", tls=False)
kore.domain("*", attach="default")

seen = []

@kore.prerequest
def first(req):
    req.note = ["first"]
    if req.path == "/stop":
        return False
    if req.path == "/answer":
        req.response(202, b"by prerequest")
        return False
    if req.path == "/quiet":
        req.response(203, b"without False")
    if req.path == "/raise":
        raise ValueError("prerequest")

@kore.prerequest
async def second(req):
    await kore.suspend(1)
    req.note.append("second")
    if req.path == "/async-stop":
        return False

def allow(req, value):
    return value == "yes"

@kore.route("^/(stop|answer|quiet|raise|async-stop|go)$", methods=["get"])
def page(req, name):
    seen.append(name)
    req.response(200, " ".join(req.note))

@kore.route("/seen")
def what(req):
    req.response(200, " ".join(seen))

def anything(req, value):
    return True

@kore.route("/param", methods=["get", "post"], get={"id": "^[0-9]+$"}, post={"name": anything}, qs={"q": "^x$"})
def param(req):
    req.populate_get()
    req.populate_post()
    req.response(200, f"{req.argument('id')} {req.argument('name')} {req.argument('q')}")

@kore.route("/auth", auth={"type": "header", "value": "x-a", "verify": allow, "redirect": "/login"})
async def auth(req):
    req.response(200, b"in")
"""


def test_prerequest_functions(server) -> None:
    up = server(script=SCRIPT, workers=1, tracebacks=True)
    assert up.get("/go").text == "first second"
    assert up.get("/stop").status == 403
    assert (up.get("/answer").status, up.get("/quiet").status) == (202, 203)
    assert up.get("/async-stop").status == 403
    assert up.get("/raise").status == 500
    assert up.get("/seen").text == "go"


def test_decorator_keywords(server) -> None:
    up = server(script=SCRIPT, workers=1)
    assert up.get("/param?id=5&q=x&name=a").text == "5 None x"
    assert up.get("/param?id=5&q=x", "POST", body="name=a", headers=FORM).text == "None a x"
    assert up.get("/auth").headers["location"] == "/login"
    assert up.get("/auth", headers={"x-a": "yes"}).text == "in"


def test_a_client_that_leaves_ends_a_retrying_validator(server) -> None:
    app = (
        "import kore\nasked = 0\n"
        + "def never(req, value):\n    global asked\n    asked += 1\n    return kore.RESULT_RETRY\n"
    )
    app += "def page(req):\n    req.response(200, str(asked))\ndef quiet(req):\n    req.response(200, str(asked))\n"
    conf = """
validator v function never
authentication a {
    authentication_type header
    authentication_value x-a
    authentication_validator v
}
domain * {
    static / page a
    static /asked quiet
}
"""
    up = server(conf, app=app, workers=1)
    with socket.create_connection(("127.0.0.1", up.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\n\r\n")
        while int(up.get("/asked").text) < 3:
            pass
    before = -1
    while (now := int(up.get("/asked").text)) != before or now < 3:
        before = now
