"""Both dialects of the conf and what they become."""

from __future__ import annotations

from pathlib import Path

import pytest
from reading import handlers, messages, read

from gkore.conf.application import Application
from gkore.conf.reader import read_conf
from gkore.conf.site import ALL_METHODS, METHODS, Rate

KORE_3 = """
bind 127.0.0.1 8888
bind_unix /tmp/kore.sock connected
{imports}
python_path {folder}
validator v_id regex ^[0-9]+$
validator v_tok function check_token
authentication auth_cookie {{
	authentication_type cookie
	authentication_value session
	authentication_validator v_tok
	authentication_uri /login
}}
domain * {{
	static / page
	dynamic ^/user/([a-z]+)$ user auth_cookie
	restrict / get head
	params qs:get / {{
		validate id v_id
	}}
	params post ^/user/([a-z]+)$ {{
		validate id v_id
	}}
}}
"""

KORE_4 = """
{imports}
workers 3
server plain {{
	bind 127.0.0.1 8888 connected
	unix @abstract
	tls no
}}
validator v_id regex ^[0-9]+$
domain example.com {{
	attach plain
	redirect ^/old/(.*)$ 301 /new/$1?$qs
	return ^/secret 403
	route / {{
		handler shop.list
		methods get post
		validate get id v_id
		validate qs:post page v_id
		validate post id v_id
		http_compress yes
		body_max 10
		rate 6/m
	}}
	route / {{
		handler user
		methods put
	}}
	route ^/u/([a-z]+)$ page
}}
privsep worker {{
	runas root
	root /tmp
	skip chroot
}}
domain other {{
	attach plain
	route /x page
}}
"""


def test_a_conf_of_kore_3(tmp_path: Path) -> None:
    application, mistakes = read(KORE_3.format(imports=handlers(tmp_path), folder=tmp_path))
    assert mistakes == []
    site = application.site
    server = site.servers["default"]
    assert [str(bind) for bind in server.binds] == ["127.0.0.1:8888", "unix:/tmp/kore.sock"]
    assert server.tls is None
    assert server.binds[1].callback is application.function("connected")
    (domain,) = site.domains
    assert domain.servers == ["default"]
    page, user = domain.routes
    assert (page.path, page.pattern, page.methods) == ("/", None, METHODS["get"] | METHODS["head"])
    assert page.handler is application.function("page")
    assert [(one.name, one.methods, one.query) for one in page.params] == [("id", METHODS["get"], True)]
    assert user.pattern is not None
    assert user.pattern.search("/user/bob")
    assert user.pattern.groups == 0, "Kore 3 hands no groups to handlers"
    assert user.methods == ALL_METHODS
    assert [(one.methods, one.query) for one in user.params] == [(METHODS["post"], False)]
    who = user.authentication
    assert who is not None
    assert (who.kind, who.value, who.uri) == ("cookie", "session", "/login")
    assert who.validator is site.validators["v_tok"]
    assert site.validators["v_tok"].function is application.function("check_token")
    assert [function.__name__ for _, function in application.onloads] == ["onload"]


def test_a_conf_of_kore_4(tmp_path: Path) -> None:
    application, mistakes = read(KORE_4.format(imports=handlers(tmp_path)))
    assert mistakes == []
    site = application.site
    assert application.settings.workers == 3
    assert application.settings.origin("workers") == "kore.conf:3"
    assert site.servers["plain"].tls is False
    assert site.servers["plain"].binds[1].path == "@abstract"
    first, other = site.domains
    assert [one.name for one in site.domains_of("plain")] == ["example.com", "other"]
    assert [(one.status, one.target) for one in first.redirects] == [(301, "/new/$1?$qs"), (403, None)]
    shop, put, user = first.routes
    assert shop.handler == application.function("shop.list")
    assert [(one.name, one.methods, one.query) for one in shop.params] == [
        ("id", METHODS["get"], True),
        ("page", METHODS["post"], True),
        ("id", METHODS["post"], False),
    ]
    assert shop.options == {"http_compress": True, "body_max": 10, "rate": Rate(6, 60)}
    assert put.methods == METHODS["put"]
    assert user.pattern is not None
    assert user.pattern.groups == 1
    assert other.routes[0].handler is application.function("page")
    worker = site.privsep("worker")
    assert (worker.runas, worker.root, worker.skip) == ("root", "/tmp", {"chroot"})


def test_order_does_not_matter(tmp_path: Path) -> None:
    text = f"""
domain * {{
	attach one
	params get /a {{
		validate id v_id
	}}
	restrict /a get
	static /a page who
	route /b {{
		validate post id v_id
		methods post
		handler user
	}}
}}
authentication who {{
	authentication_type request
	authentication_validator v_tok
}}
validator v_tok function check_token
validator v_id regex x
server one {{
	bind ::1 80
	tls no
}}
{handlers(tmp_path)}
"""
    application, mistakes = read(text)
    assert mistakes == []
    assert [len(route.params) for route in application.site.domains[0].routes] == [1, 1]


def test_both_dialects_in_one_file(tmp_path: Path) -> None:
    text = f"""
bind 127.0.0.1 1
{handlers(tmp_path)}
domain a {{
	static / page
	route /new {{
		handler user
	}}
	route /line user
}}
server second {{
	bind 127.0.0.1 2
	tls no
}}
domain b {{
	attach second
}}
"""
    application, mistakes = read(text)
    assert mistakes == []
    assert [domain.servers for domain in application.site.domains] == [["default"], ["second"]]


def test_top_level_privileges_are_the_workers(tmp_path: Path) -> None:
    application, mistakes = read("runas root\nchroot /tmp\nkeymgr_runas root\nkeymgr_root /\n")
    assert mistakes == []
    assert application.site.privsep("worker").root == "/tmp"
    assert application.site.privsep("keymgr").root == "/"


def test_blanks_and_comments_that_kore_stumbles_over(tmp_path: Path) -> None:
    text = f"""workers 2 # two
  # whole line
{handlers(tmp_path)}
bind 127.0.0.1 80 # x
domain * {{ # all
	static / page # root
}} # end
""".replace("\n", "\r\n")
    application, mistakes = read(text)
    assert mistakes == []
    assert application.settings.workers == 2
    assert application.site.servers["default"].binds[0].callback is None


def test_free_text_keeps_its_number_sign() -> None:
    application, mistakes = read("http_server_version gkore #1\nvalidator v regex ^a #b$")
    assert mistakes == []
    assert application.settings.http_server_version == "gkore #1"
    pattern = application.site.validators["v"].pattern
    assert pattern is not None
    assert pattern.search("a #b")


def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GKORE_ADDRESS", "127.0.0.1 81")
    monkeypatch.setenv("GKORE_PORT", "82")
    monkeypatch.setenv("GKORE_BAD", "many")
    application, mistakes = read("bind $GKORE_ADDRESS\nbind ::1 $GKORE_PORT\nworkers $GKORE_BAD\nvalidator v regex $qs")
    assert [str(bind) for bind in application.site.servers["default"].binds] == ["127.0.0.1:81", "[::1]:82"]
    (mistake,) = mistakes
    assert (mistake.message, mistake.place.column, mistake.width) == ('"many" is not a number', 9, len("$GKORE_BAD"))


def test_include(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "routes.conf").write_text("\tstatic /x nix\n")
    (tmp_path / "sub" / "beside.conf").write_text("include routes.conf\n")
    _, mistakes = read("domain * {\ninclude sub/beside.conf\n}\nbind 127.0.0.1 0")
    assert [str(one.place) for one in mistakes] == ["sub/routes.conf:1:12"]


def test_files_that_include_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.conf").write_text("include b.conf\n")
    (tmp_path / "b.conf").write_text("include a.conf\n")
    (mistake,) = read("include a.conf")[1]
    assert str(mistake.place) == "b.conf:1:9"
    assert "include each other" in mistake.message


def test_bytes_that_are_no_text() -> None:
    assert messages(b"# caf\xe9\nworkers 2") == []
    assert messages(b"logfile caf\xe9") == ["1:12 byte 0xe9, which is not UTF-8"]
    assert messages(b"workers 2\0") == ["1:10 a NUL byte"]
    assert messages(b"\xef\xbb\xbfworkers 2") == []


def test_more_domains_may_follow_the_star(tmp_path: Path) -> None:
    text = f"bind ::1 0\n{handlers(tmp_path)}\ndomain * {{\n}}\ndomain example.com {{\n}}\ndomain example.com {{\n}}"
    application, mistakes = read(text)
    assert [domain.name for domain in application.site.domains_of("default")] == ["*", "example.com"]
    assert [one.message for one in mistakes] == ["server default has a domain example.com already, at kore.conf:5:1"]


def test_a_domain_without_attach_among_several_servers() -> None:
    text = "server a {\nbind ::1 0\n}\nserver b {\nbind ::1 0\n}\ndomain * {\n}"
    assert messages(text) == ["7:1 domain '*' not attached to server"]


def test_a_tls_server_wants_certificates() -> None:
    assert messages("server a {\nbind ::1 0\n}\ndomain x {\n}") == [
        "4:1 incomplete TLS setup for 'x': server a speaks TLS"
    ]


def test_an_unknown_block_is_one_mistake() -> None:
    assert messages("frob x {\n\tinner 1\n\tdeeper {\n\t}\n}\nworkers 2") == ['1:1 "frob" is not a directive']


def test_what_config_strict_no_passes_over() -> None:
    text = "config_strict no\nfrobnicate 3\ndomain * {\nworkers 2\nparams_max 3\n}\n}\nbind ::1 0 \ndomain x {"
    application, mistakes = read(text)
    assert application.settings.config_strict is False
    assert application.settings.workers == 2, "Kore doesn't look where a setting stands"
    assert mistakes
    assert all(one.lenient for one in mistakes)


def test_a_python_path_that_is_not_there_is_said_and_does_no_harm(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    conf = tmp_path / "kore.conf"
    conf.write_text("workers 1\npython_path /no/such\nbind 127.0.0.1 0\n")
    application = Application()
    assert read_conf(application, str(conf)) == []
    assert application.settings.workers == 1
    assert f"{conf}:2:1: python_path: there is no directory /no/such; going on without it" in capfd.readouterr().err
