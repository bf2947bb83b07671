"""The real command: what it prints, how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gkore import cli
from gkore.conf.application import Application

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
ENVIRONMENT.pop("NO_COLOR", None)


def gkore(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run ``python -m gkore`` to its end."""
    command = [sys.executable, "-m", "gkore", *arguments]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)


def test_help_fits_a_screen() -> None:
    for flag in ("-h", "--help"):
        done = gkore(flag)
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 120
    missing = [name.rstrip("=") for name in cli.LONG if f"--{name.rstrip('=')}" not in done.stdout]
    assert missing == []


def test_help_of_a_directive() -> None:
    done = gkore("--help", "http_body_max")
    assert done.returncode == 0
    assert "1024000" in done.stdout
    wrong = gkore("--help", "http_body_mx")
    assert wrong.returncode == 2
    assert 'did you mean "http_body_max"?' in wrong.stderr


def test_version() -> None:
    done = gkore("-v")
    assert done.returncode == 0
    assert done.stdout.startswith("gkore 0.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to serve"),
        (["--wrokers", "3"], "did you mean --workers?"),
        (["-z"], "option -z not recognized"),
        (["-c"], "option -c requires argument"),
        (["--workers", "0", "-c", "x"], "--workers: 0 is out of range"),
        (["--bind", "nix", "-c", "x"], '--bind: "nix" lacks a port'),
        (["--bind", "1:2:3", "-c", "x"], "is not an address"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = gkore(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_demo_conf_is_fine_from_anywhere(tmp_path: Path) -> None:
    done = gkore("-t", "-c", "etc/kore.conf")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "etc/kore.conf: fine: 1 server, 1 domain, 11 routes\n",
        "",
    )
    assert gkore("--check", "--conf", str(ROOT / "etc" / "kore.conf"), cwd=tmp_path).returncode == 0
    assert list(tmp_path.iterdir()) == [], "a check leaves nothing behind"


def test_ten_mistakes_are_ten_messages_without_colour_in_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "bad.conf").write_text("".join(f"worker{number} 1\n" for number in range(10)))
    done = gkore("-t", "-c", "bad.conf", cwd=tmp_path)
    assert done.returncode == 3
    assert [line for line in done.stderr.splitlines() if ": error: " in line] == [
        f'bad.conf:{number + 1}:1: error: "worker{number}" is not a directive' for number in range(10)
    ]
    assert "\033" not in done.stderr
    assert done.stderr.splitlines()[-1] == "gkore: 10 mistakes in the configuration"


def test_colour_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bad.conf").write_text("frob 1\n")
    for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        command = f"{sys.executable} -m gkore -t -c bad.conf"
        done = subprocess.run(
            ["script", "-qec", command, "/dev/null"],
            cwd=tmp_path,
            env={**ENVIRONMENT, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 3
        assert ("\033[31m" in done.stdout) is coloured


def test_a_missing_conf_or_script_is_status_3(tmp_path: Path) -> None:
    done = gkore("-c", "nix.conf", cwd=tmp_path)
    assert done.returncode == 3
    assert "nix.conf: error: can't be read: No such file or directory" in done.stderr
    done = gkore("nix.py", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr == "gkore: nix.py does not exist; expected: a Python file or a package\n"


def test_a_misspelt_command_is_told_from_a_script(tmp_path: Path) -> None:
    done = gkore("stauts", "-c", "kore.conf", cwd=tmp_path)
    assert done.returncode == 2
    assert "stauts is neither a command nor a package here, did you mean gkore status?" in done.stderr


def test_print_config_says_where_values_come_from(tmp_path: Path) -> None:
    (tmp_path / "site.conf").write_text("\nworkers 3\nhttp_keepalive_time 7\n")
    done = gkore("--print-config", "--workers", "2", "-c", "site.conf", cwd=tmp_path)
    assert done.returncode == 0
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert rows["workers"] == ["2", "command", "line"]
    assert rows["http_keepalive_time"] == ["7", "site.conf:3"]
    assert rows["http_body_max"] == ["1024000", "default"]


def test_words_behind_the_script_are_the_applications(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("class App:\n def configure(self, args): print(args[1:])\nkoreapp = App()\n")
    done = gkore("-t", "app.py", "-c", "--workers", "many", cwd=tmp_path)
    assert done.stdout == "['-c', '--workers', 'many']\napp.py: fine: 0 servers, 0 domains, 0 routes\n"


def test_the_standard_library_cooperates_before_user_code_is_imported(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import socket, kore\nprint(socket.socket.__module__.split('.')[0], kore.RESULT_OK)\n"
    )
    assert gkore("-t", "app.py", cwd=tmp_path).stdout.splitlines()[0] == "gevent 1"


def test_a_certificate_that_is_none_refuses_the_start(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("")
    (tmp_path / "site.conf").write_text("server s {\nbind ::1 0\n}\ndomain x {\ncertfile c.pem\ncertkey c.pem\n}\n")
    done = gkore("-c", "site.conf", cwd=tmp_path)
    assert done.returncode == 3
    assert "certfile c.pem: there is no certificate in it" in done.stderr


def test_addresses_of_the_command_line_replace_the_confs() -> None:
    order = cli.parse(
        ["--bind", ":8080", "--bind", "[::1]:80", "--bind", "unix:/tmp/s", "--workers=3", "-nrq", "app.py"]
    )
    assert (order.workers, order.flags, order.script) == (3, {"n", "r", "q"}, "app.py")
    application = Application()
    cli.override(application, order)
    (server,) = application.site.servers.values()
    assert [str(bind) for bind in server.binds] == ["0.0.0.0:8080", "[::1]:80", "unix:/tmp/s"]
    assert server.tls is None


def test_words_as_gunicorn_wants_them_are_told_where_they_go(tmp_path: Path) -> None:
    done = gkore("shop:app", cwd=tmp_path)
    assert done.returncode == 3
    assert "wsgi shop:app" in done.stderr


def test_a_module_that_does_not_import_is_one_mistake_and_not_one_more_for_each_of_its_functions(
    tmp_path: Path,
) -> None:
    (tmp_path / "app.py").write_text("def hello(req):\n    pass\nx = (\n")
    conf = "bind 127.0.0.1 0\npython_import app.py\ndomain * {\n    route / hello\n    route /b other\n}\n"
    (tmp_path / "kore.conf").write_text(conf)
    done = gkore("--check", "-c", "kore.conf", cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (3, "gkore: 1 mistake in the configuration")


def test_a_script_that_serves_nobody_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("def app(environ, start_response): ...\n")
    ended = gkore("shop.py", cwd=tmp_path)
    assert ended.returncode == 3
    assert "shop.py: error: nothing in it declares a server or a domain: it would serve nobody" in ended.stderr
    assert "`wsgi shop:app` in a route of a kore.conf" in ended.stderr


def test_an_asgi_application_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "spoken.py").write_text("async def app(scope, receive, send):\n    pass\n")
    conf = "bind 127.0.0.1 0\ndomain * {\n    route ^/ {\n        wsgi spoken:app\n    }\n}\n"
    (tmp_path / "kore.conf").write_text(conf)
    done = gkore("--check", "-c", "kore.conf", cwd=tmp_path)
    assert done.returncode == 3
    assert "4:14: error: spoken:app is an ASGI application" in done.stderr
