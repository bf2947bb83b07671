"""The commands of developers, really run: create, routes, openapi, completion, man."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import plugin

from gkore.conf.openapi import template
from gkore.develop import watching
from gkore.develop.skeleton import STYLES
from gkore.testing import Client

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


def run(*words: str, cwd: Path, module: str = "gkore") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("style", STYLES)
def test_what_create_makes_runs_and_passes_its_test(style: str, tmp_path: Path) -> None:
    made = run("create", "my-shop", "--style", style, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines()[-1].startswith("next: cd my-shop && gkore run ")
    project = tmp_path / "my-shop"
    assert "hello" in run("routes", cwd=project).stdout
    passed = run("-q", "-p", "no:cacheprovider", *plugin(), cwd=project, module="pytest")
    assert "2 passed" in passed.stdout, passed.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "one name, please"),
        (["x", "--style", "rails"], "there is no style rails: conf, app, package"),
        (["x", "--stile", "app"], "not recognized"),
        (["1 x"], "is no name for a project"),
        (["full"], "full exists already and is not empty"),
    ],
)
def test_create_refuses_with_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    done = run("create", *words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_commands_without_anything_to_work_on_say_so(tmp_path: Path) -> None:
    for command in ("run", "routes", "openapi"):
        done = run(command, cwd=tmp_path)
        assert done.returncode == 2
        assert "there is no kore.conf and no app.py here" in done.stderr


CONF = """\
bind 127.0.0.1 0
python_import app.py
validator v_n regex ^[0-9]+$
validator v_f function check
authentication key {
	authentication_type header
	authentication_value x-key
	authentication_validator v_f
}
domain example.com {
	redirect ^/old$ 301 /new
	return ^/\\.git 404
	route /list {
		handler page
		methods get head
		validate get n v_n
	}
	route ^/user/([a-z]+)/post/([0-9]{1,4})$ {
		handler post_of
		methods get post
		validate post title v_n
		authenticate key
		rate 5/s
	}
	filemap /files/ .
	route ^/any.*thing page
}
"""
APP = '''
def page(req):
    pass

def post_of(req, user, number):
    """One post.

    Of one user.
    """

def check(req, value):
    return True
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "kore.conf").write_text(CONF)
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def test_routes_is_a_table_in_the_order_of_matching(project: Path) -> None:
    done = run("routes", cwd=project)
    assert done.stderr == ""
    assert normal(done.stdout) == [
        "server default: 127.0.0.1:0",
        "domain example.com",
        "* ^/old$ redirect 301 /new",
        r"* ^/\.git return 404",
        "get head /list page ?n=v_n",
        "get post ^/user/([a-z]+)/post/([0-9]{1,4})$ post_of auth key title=v_n rate 5/s",
        "get head /files/* files .",
        "* ^/any.*thing page",
    ]


def normal(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_openapi_says_what_the_routes_say(project: Path) -> None:
    done = run("openapi", cwd=project)
    document = json.loads(done.stdout)
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "example.com"
    (project / "kore.conf").write_text(CONF.replace("domain example.com", "domain *"))
    assert json.loads(run("openapi", cwd=project).stdout)["info"]["title"] == "app", "its handlers are of app.py"
    assert document["x-gkore-left-out"] == ["^/any.*thing"]
    assert list(document["paths"]) == ["/list", "/user/{user}/post/{number}"]
    listing = document["paths"]["/list"]
    assert list(listing) == ["get"]
    assert listing["get"]["parameters"] == [
        {"name": "n", "in": "query", "schema": {"type": "string", "pattern": "^[0-9]+$"}}
    ]
    post = document["paths"]["/user/{user}/post/{number}"]["post"]
    assert (post["summary"], post["description"]) == ("One post.", "Of one user.")
    assert [(one["name"], one["schema"]["pattern"]) for one in post["parameters"]] == [
        ("user", "^[a-z]+$"),
        ("number", "^[0-9]{1,4}$"),
    ]
    form = post["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]["properties"]
    assert form == {"title": {"type": "string", "pattern": "^[0-9]+$"}}
    assert post["responses"].keys() == {"default", "403", "429"}
    assert document["components"]["securitySchemes"] == {"key": {"type": "apiKey", "in": "header", "name": "x-key"}}


def test_a_domain_serves_its_description_and_a_page_to_try_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    (project / "kore.conf").write_text(
        CONF.replace("\trate 5/s\n", "").replace("redirect ^", "openapi /api\n\tredirect ^", 1)
    )
    with Client("kore.conf", host="example.com") as client:
        served = client.get("/api")
        assert served.headers["content-type"] == "application/json"
        assert list(served.json()["paths"]) == ["/list", "/user/{user}/post/{number}", "/api"]
        page = client.get("/api", headers={"accept": "text/html"})
        assert page.text.startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("expression", "path"),
    [
        ("^/$", "/"),
        ("^/a/b-c$", "/a/b-c"),
        (r"^/a\.json$", "/a.json"),
        ("^/([0-9]+)$", "/{one}"),
        ("^/([^/]+)/x/([a-z/]+)$", "/{one}/x/{two}"),
        ("^/a", None),
        ("/a$", None),
        ("^/a+$", None),
        ("^/(a|(b))$", None),
    ],
)
def test_templates_of_expressions(expression: str, path: str | None) -> None:
    assert template(expression, ["one", "two"]) == path


def test_bash_completes_options_commands_and_directives(tmp_path: Path) -> None:
    script = run("completion", "bash", cwd=tmp_path).stdout

    def complete(*words: str) -> list[str]:
        typed = " ".join(f"'{word}'" for word in words)
        asked = f"{script}\nCOMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _gkore; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert complete("gkore", "--che") == ["--check"]
    assert "reload" in complete("gkore", "re")
    assert complete("gkore", "--help", "http_body_m") == ["http_body_max"]
    assert complete("gkore", "create", "x", "--style", "p") == ["package"]
    assert complete("gkore", "man", "") == ["gkore", "kore.conf"]


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_takes_its_script(tmp_path: Path) -> None:
    (tmp_path / "gkore.zsh").write_text(run("completion", "zsh", cwd=tmp_path).stdout)
    subprocess.run(["zsh", "-n", "gkore.zsh"], cwd=tmp_path, check=True)


def test_man_pages_name_every_option_and_directive(tmp_path: Path) -> None:
    command, conf = (run("man", which, cwd=tmp_path).stdout for which in ("gkore", "kore.conf"))
    assert command.startswith(".TH GKORE 8 ")
    assert "\\-\\-print\\-config" in command
    for name in ("http_body_max", "certfile", "websocket_slow"):
        assert re.search(rf"^\.B {name} ", conf, re.MULTILINE)
    if shutil.which("groff"):
        for page in (command, conf):
            checked = subprocess.run(
                ["groff", "-man", "-ww", "-z"], input=page, capture_output=True, text=True, check=True
            )
            assert checked.stderr == ""
    assert run("man", "gk", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("way", ["polled", "notified"])
def test_changes_of_files_that_matter_are_noticed(way: str, tmp_path: Path) -> None:
    if way == "notified":
        pytest.importorskip("watchfiles")
    (tmp_path / "app.py").write_text("1")
    (tmp_path / "notes.txt").write_text("1")
    (tmp_path / "early.py").write_text("1")
    known = watching.stamps([str(tmp_path)])
    (tmp_path / "early.py").write_text("22")
    watch = getattr(watching, way)([str(tmp_path)], known)
    assert next(watch) == {str(tmp_path / "early.py")}
    assert not any(next(watch) for _ in range(2))
    (tmp_path / "notes.txt").write_text("22")
    (tmp_path / "app.py").write_text("22")
    for _ in range(100):
        found = next(watch)
        if found:
            break
    assert found == {str(tmp_path / "app.py")}
