"""THE TABLE: every row takes what it says and refuses what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from reading import handlers, read

from gkore.conf import declarations
from gkore.conf.directives import ROWS, SETTINGS, TABLE
from gkore.conf.reader import EFFECTS
from gkore.conf.row import CONTEXTS, Row

# For every kind of argument: a word that it takes. {folder} is a directory with files in it.
RIGHT = {
    "path": "/x",
    "directory": "{folder}",
    "file": "{folder}/handlers.py",
    "onload": "onload",
    "word": "x",
    "name": "x",
    "host": "127.0.0.1",
    "port": "0",
    "callback": "connected",
    "yes|no": "no",
    "process": "worker",
    "user": "root",
    "chroot": "chroot",
    "regex|function": "regex",
    "expression": "^a b$",
    "cookie|header|request": "header",
    "validator": "known",
    "uri": "/login",
    "server": "default",
    "ca": "{folder}/handlers.py",
    "crl": "{folder}/handlers.py",
    "depth": "3",
    "status": "301",
    "target": "/y$1",
    "url": "/f/",
    "authentication": "who",
    "handler": "page",
    "function": "page",
    "method": "get",
    "[qs:]method": "qs:get",
    "module:application": "wsgiref.simple_server:demo_app",
    "rate": "5/s",
    "number": "5",
    "value": "x",
    "text": "some text",
    "type": "text/x",
    "extension": "x",
    "worker": "1",
    "network": "10.0.0.0/8",
    "origin": "https://example.com",
}
SPECIAL = {
    "include": "{folder}/empty.conf",
    "python_path": "{folder}",
    "authentication_value": "session",
    "metrics": ":9100",
    "openapi": "/api",
    "logfile": "{folder}/log",
    "tls_dhparam": "{folder}/handlers.py",
    "acme_ca": "{folder}/handlers.py",
    "acme_provider": "https://ca.example/directory",
    "unix": "{folder}/sock",
    "restrict": "/x get",
    "rate": "5/s",
    "return": "/x 403",
    "dynamic": "^/d page who",
    "route": "^/r page who",
    "static": "/s page who",
    "attach": "second",
    "body_max": "0",
    "domain": "other {{",
    "server": "other {{",
    "authentication": "other {{",
    "params": "get /x {{",
    "deployment": "dev",
    "accesslog": "-",
    "websocket_bus": "unix:///run/redis.sock",
}
AROUND = {
    "top": ("", ""),
    "server": ("server other {\nbind ::1 0\ntls no\n", "}\n"),
    "domain": ("domain inner.example {\nstatic /x page\n", "}\n"),
    "route": ("domain inner.example {\nroute /x {\nhandler page\n", "}\n}\n"),
    "params": ("domain inner.example {\nstatic /x page\nparams get /x {\n", "}\n}\n"),
    "authentication": ("authentication other {\nauthentication_validator known\nauthentication_value x\n", "}\n"),
    "privsep": ("privsep worker {\n", "}\n"),
}
BLOCKS = {
    "server": "bind ::1 0\ntls no\n}\n",
    "authentication": "authentication_value x\nauthentication_validator known\n}\n",
}
CASES = [
    pytest.param(row, context, id=f"{row.name}-{context}")
    for row in TABLE
    if not row.refusal
    for context in row.contexts
]


def conf(folder: Path, context: str, line: str) -> str:
    """A whole conf around one line."""
    before, after = AROUND[context]
    common = f"""
{handlers(folder)}
bind 127.0.0.1 0
validator known regex x
authentication who {{
authentication_type request
authentication_validator known
}}
"""
    if line.startswith("cert"):  # neither goes without the other
        line += "\n" + (
            line.replace("file", "key", 1) if line.startswith("certfile") else line.replace("key", "file", 1)
        )
    if line.startswith("attach"):
        common += "server second {\nbind ::1 0\ntls no\n}\n"
    return common + before + line + "\n" + after


def right(row: Row, folder: Path) -> str:
    """The row's line with every argument it can have."""
    if row.name in SPECIAL:
        text = SPECIAL[row.name]
    else:
        labels = [argument.label for argument in row.arguments]
        text = " ".join(RIGHT[label] if label in RIGHT else label.split("|")[0] for label in labels)
        text += " {{" if row.opens else ""
    line = f"{row.name} {text.format(folder=folder)}"
    return line + ("\n" + BLOCKS.get(row.name, "}\n") if line.endswith("{") else "")


@pytest.mark.parametrize(("row", "context"), CASES)
def test_a_row_takes_what_it_says(tmp_path: Path, row: Row, context: str) -> None:
    (tmp_path / "empty.conf").write_text("")
    text = conf(tmp_path, context, right(row, tmp_path))
    found = [one.render() for one in read(text)[1]]
    if row.name.startswith("cert"):  # the files are no certificates; tests/live/test_tls.py has real ones
        assert all("there is no certificate in it" in one for one in found)
        return
    assert found == [], text


@pytest.mark.parametrize(("row", "context"), CASES)
def test_a_row_without_arguments_is_refused(tmp_path: Path, row: Row, context: str) -> None:
    found = [one.message for one in read(conf(tmp_path, context, row.name))[1]]
    assert any(message.endswith(" is missing") for message in found) or any("{ is missing" in one for one in found)


@pytest.mark.parametrize("row", [row for row in TABLE if not row.refusal and "top" not in row.contexts])
def test_a_row_out_of_place_is_refused(tmp_path: Path, row: Row) -> None:
    if any("top" in other.contexts for other in ROWS[row.name]):
        pytest.skip("it has a row for the top")
    found = [one.message for one in read(right(row, tmp_path))[1]]
    assert any(message.startswith(f"{row.name} can't stand") for message in found)


@pytest.mark.parametrize("row", [row for row in TABLE if row.refusal], ids=lambda row: row.name)
def test_what_can_t_be_had_is_a_clear_message(row: Row) -> None:
    (mistake,) = read(f"{row.name} x")[1]
    assert mistake.expected == row.refusal


@pytest.mark.parametrize("row", [row for row in SETTINGS if row.contexts], ids=lambda row: row.name)
def test_a_setting_keeps_what_it_shows(tmp_path: Path, row: Row) -> None:
    """What --print-config prints for a default is what a conf may say."""
    for text in row.show(row.initial()):
        application, mistakes = read(f"{row.name} {text}")
        assert mistakes == []
        assert getattr(application.settings, row.name) == row.initial()
        assert application.settings.origin(row.name) == "kore.conf:1"


def test_every_row_that_builds_the_site_has_an_effect() -> None:
    rows = {row.name for row in TABLE if not (row.setting or row.option or row.refusal)}
    assert rows - set(EFFECTS) == {"include"}


def test_rows_are_well_formed() -> None:
    for row in TABLE:
        assert row.doc.endswith("."), row.name
        assert set(row.contexts) <= set(CONTEXTS), row.name
        assert row.since in ("3.2", "3.3", "4.0", "4.2", "4.3", "gkore"), row.name
        assert not any(argument.many for argument in row.arguments[:-1]), row.name
    names = [(row.name, context) for row in TABLE for context in row.contexts]
    assert len(names) == len(set(names))
    assert declarations.PROCESSES == ("worker", "keymgr", "acme")


KORE = """
include bind bind_unix load python_path python_import root chroot runas keymgr_runas keymgr_root domain
workers worker_max_connections worker_rlimit_nofiles worker_accept_threshold worker_set_affinity pidfile
socket_backlog tls_version tls_cipher tls_dhparam rand_file certfile certkey client_verify client_verify_depth
static dynamic filemap filemap_ext filemap_index accesslog restrict params validate validator authentication
authentication_type authentication_value authentication_validator authentication_uri http_media_type
http_header_max http_body_max http_body_disk_offload http_body_disk_path http_hsts_enable http_keepalive_time
http_request_ms http_request_limit websocket_maxframe websocket_timeout pgsql_conn_max pgsql_queue_limit
task_threads pledge worker_death_policy http_header_timeout http_body_timeout curl_timeout curl_recv_max
server unix tls privsep skip attach acme redirect return route handler methods authenticate on_headers
on_body_chunk on_free logfile worker_no_accept deployment acme_email acme_provider seccomp_tracing
http_server_version http_pretty_error file acme_runas acme_root
"""


@pytest.mark.parametrize("name", KORE.split())
def test_every_directive_of_kore_is_known(name: str) -> None:
    assert name in ROWS
