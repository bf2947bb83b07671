"""What is said about mistakes: one message each, at its place, all of them at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from reading import handlers, messages, read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workerz 3", '1:1 "workerz" is not a directive'),
        ("workers", "1:1 number is missing"),
        ("workers 0", "1:9 0 is out of range"),
        ("workers two", '1:9 "two" is not a number'),
        ("workers 2 3", "1:11 workers takes no more words here"),
        ("workers 99999999999999999999999", "1:9 99999999999999999999999 is out of range"),
        ("bind 127.0.0.1", "1:1 port is missing"),
        ("bind 127.0.0.1 70000", "1:16 there is no port 70000"),
        ("bind 127.0.0.999 80", '1:6 "127.0.0.999" is not an IP address'),
        ("bind 127.0.0.1 80 nix", "1:19 there is no function nix"),
        ("}", "1:1 there is no open block to close"),
        ("domain *\n}", "1:8 { is missing at the end of the line"),
        ("domain *{\n}", "1:8 there must be a blank before {"),
        ("server{\n}", "1:1 there must be a blank before {"),
        ("domain * {", "1:1 this domain block is never closed"),
        ("domain a { attach b\n}", "1:12 a line ends behind {"),
        ("domain a {\nattach b }", "2:10 } must stand on a line of its own"),
        ("domain a {\ndomain b {\n}", "1:1 this domain block is never closed"),
        ("static / page", "1:1 static can't stand at the top of a conf"),
        ("handler page", "1:1 handler can't stand at the top of a conf"),
        ("file x", "1:1 file can't stand at the top of a conf"),
        ("server a {\nbind 127.0.0.1 0\nworkers 3\n}", "3:1 workers can't stand in a server block"),
        ("server a {\nbind ::1 0\n}\nserver a {\nbind ::1 0\n}", "4:8 server a exists already, at kore.conf:1:1"),
        ("server a {\n}", "1:1 server a has no address"),
        ("load x.so", "1:1 gkore can't do load"),
        ("pledge dns", "1:1 gkore can't do pledge"),
        ("runas nobody-of-this-name", '1:7 there is no user "nobody-of-this-name"'),
        ("privsep worker {\nrunas nobody-of-this-name\nroot /\n}", '2:7 there is no user "nobody-of-this-name"'),
        ("root /no/such", "1:6 there is no directory /no/such for the worker process"),
        ("validator a b c", '1:13 "b" is not known here'),
        ("validator a regex ^[0-9$", "1:20 regular expression: unterminated character set"),
        ("validator a regex x(y", "1:20 regular expression: missing ), unterminated subpattern"),
        ("validator a regex [[:alhpa:]]", "1:20 regular expression: unknown class [:alhpa:]"),
        ("validator a function nix", "1:22 there is no function nix"),
        ("validator a regex x\nvalidator a regex y", "2:11 validator a exists already, at kore.conf:1:1"),
        ("authentication a {\nauthentication_value x\n}", "1:16 no authentication validator for a"),
        ("python_import /no/such.py", "1:15 /no/such.py does not exist"),
        ("include /no/such.conf", "1:9 failed to open include /no/such.conf: No such file or directory"),
        ("logfile /no/such/log", "1:9 there is no directory /no/such for it"),
        ("tls_dhparam /no/such", "1:13 there is no file /no/such"),
        ("pidfile a #b", "1:9 a comment can't follow here"),
        ("privsep cook {\n}", '1:9 "cook" is not known here'),
        ("workers $NO_SUCH_VARIABLE_HERE", "1:9 environment variable $NO_SUCH_VARIABLE_HERE is not set"),
        ("trusted_proxies 10.0.0.0/8 nix", '1:28 "nix" is not a network'),
        ("websocket_bus carrier pigeon", '1:15 "carrier pigeon" carries no broadcasts'),
        ("websocket_bus postgres", '1:15 "postgres" carries no broadcasts'),
        (
            "websocket_bus redis://here:port",
            "1:15 redis://here:port: Port could not be cast to integer value as 'port'",
        ),
        ("websocket_bus redis:///0", "1:15 redis:///0 names no host"),
        ("websocket_bus postgres  chat", "1:25 websocket_bus: no database is called chat"),
        ("x" * 8192, "1:1 line of 8192 bytes"),
    ],
)
def test_a_mistake_has_a_place(text: str, said: str) -> None:
    assert said in messages(text)


def test_a_block_on_one_line_is_read_as_it_was_meant() -> None:
    assert messages("server a { bind 127.0.0.1 0 }\nserver b { bind 127.0.0.999 0 }") == [
        "1:12 a line ends behind {",
        "1:29 } must stand on a line of its own",
        "2:12 a line ends behind {",
        '2:17 "127.0.0.999" is not an IP address',
        "2:31 } must stand on a line of its own",
    ]


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("static a page", '2:8 "a" is not a path that begins with /'),
        ("static / nix", "2:10 there is no function nix"),
        ("static / page nix", "2:15 there is no authentication nix"),
        ("dynamic ^/(x page", "2:11 regular expression: missing ), unterminated subpattern"),
        ("restrict / get", "2:10 there is no route / in this domain"),
        ("restrict / hed", "2:12 unknown HTTP method: hed"),
        ("params qs:get / {\n}", "2:15 there is no route / in this domain"),
        ("params xx:get / {\n}", '2:8 unknown prefix "xx"'),
        ("route /", "2:1 the route / has no handler"),
        ("route / {\n}", "2:1 the route / has no handler"),
        (
            "route / {\nhandler page\nmethods get\nvalidate post a known\n}",
            "5:10 method post is not one of this route's",
        ),
        ("route / {\nhandler page\nvalidate post a v\n}", "4:17 unknown validator v"),
        ("route / {\nhandler page\nauthenticate nix\n}", "4:14 there is no authentication nix"),
        (
            "route / page\nstatic / user",
            "3:1 duplicate route for '/': the one at kore.conf:2:1 answers the same methods",
        ),
        ("route / {\nhandler page\nrate 5\n}", '4:6 "5" is not a rate'),
        ("attach nix", "2:8 server 'nix' does not exist"),
        ("attach default\nattach default", "3:8 domain '*' already attached to server"),
        ("redirect ^/a 200 /b", "2:14 200 is out of range"),
        ("return ^/a 302", "2:12 302 is out of range"),
        ("filemap /a /tmp", '2:9 "/a" is not a path that begins and ends with /'),
        ("filemap /a/ /no/such", f"2:1 there is no directory /no/such below {os.getcwd()}"),
        ("accesslog -\naccesslog -", "3:11 domain * logs to - already"),
        ("certfile /no/such", "2:10 there is no file /no/such"),
        ("certfile /etc/hostname", "1:1 incomplete TLS setup for '*'"),
        ("acme yes", "2:6 ACME gives no certificates for patterns"),
    ],
)
def test_a_mistake_in_a_domain_has_a_place(tmp_path: Path, inside: str, said: str) -> None:
    text = f"domain * {{\n{inside}\n}}\n{handlers(tmp_path)}\nbind 127.0.0.1 0\nvalidator known regex x"
    assert messages(text) == [said]


def test_ten_mistakes_are_ten_messages_in_the_order_of_their_places(tmp_path: Path) -> None:
    text = f"""workers 0
wrkers 3
bind 127.0.0.1
{handlers(tmp_path)}
validator v regex [
domain * {{
	static / pag
	static /two
	restrict /three get
	frob
	route ^/( page
}}
runas nobody-of-this-name
tls_version 1.4
"""
    found = read(text)[1]
    assert [one.place.line for one in found] == [1, 2, 3, 5, 7, 8, 9, 10, 11, 13, 14]
    assert all(one.place.column and one.source for one in found)


def test_a_mistake_as_it_is_shown() -> None:
    (mistake,) = read("\tworkes 3")[1]
    assert mistake.render() == (
        'kore.conf:1:2: error: "workes" is not a directive\n'
        "     workes 3\n"
        "     ^^^^^^\n"
        "  expected: a directive that may stand at the top of a conf\n"
        '  did you mean "workers"?'
    )


def test_a_failing_import_shows_only_the_users_frames(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("def f():\n    return 1 / 0\n\nf()\n")
    (mistake,) = read(f"python_import {file}")[1]
    assert mistake.message == f"{file} does not import: ZeroDivisionError: division by zero"
    assert mistake.place.line == 1
    assert f'File "{file}", line 2, in f' in mistake.detail
    assert "gkore" not in mistake.detail
    assert "importlib" not in mistake.detail
