"""Mistakes around ``acme yes`` have a place and say what to do."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from gkore.conf import commissions
from gkore.conf.application import Application, adopt
from gkore.conf.inspection import inspect
from gkore.conf.reader import read_conf


def mistakes(folder: Path, text: str) -> list[str]:
    path = folder / "kore.conf"
    path.write_text(text)
    application = adopt(Application())
    found = [*read_conf(application, str(path)), *inspect(application)]
    return [one.render().replace(str(path), "conf") for one in found]


PLAIN = "server plain {\nbind 127.0.0.1 0\ntls no\n}\n"


@pytest.mark.parametrize(
    ("text", "said", "remedy"),
    [
        (
            "bind 127.0.0.1 0\ndomain * {\nacme yes\n}\n",
            "conf:3:6: error: ACME gives no certificates for patterns",
            "a domain without",
        ),
        (
            "bind 127.0.0.1 0\ndomain 192.0.2.1 {\nacme yes\n}\n",
            "conf:3:6: error: ACME gives no certificate for the address",
            "certkey",
        ),
        (
            "bind 127.0.0.1 0\ndomain a/b {\nacme yes\n}\n",
            "conf:3:6: error: ACME gives no certificate for a/b: that is no host",
            "dots",
        ),
        (
            "bind 127.0.0.1 0\ndomain one.test {\nacme yes\ncertfile {pem}\ncertkey {pem}\n}\n",
            "conf:3:6: error: domain one.test has certfile or certkey",
            "one of the two",
        ),
        (
            f"{PLAIN}domain one.test {{\nattach plain\nacme yes\n}}\n",
            "conf:7:6: error: server plain speaks no TLS",
            "`tls yes`",
        ),
        (
            "acme_provider http://ca.test/\n",
            'conf:1:15: error: "http://ca.test/" is not a URL that begins with https://',
            "",
        ),
    ],
)
def test_what_can_not_be_is_said_with_its_place(tmp_path: Path, text: str, said: str, remedy: str) -> None:
    pem = tmp_path / "x.pem"
    pem.write_text("")
    found = mistakes(tmp_path, text.replace("{pem}", str(pem)))
    assert any(one.startswith(said) and remedy in one for one in found), found


def test_without_the_extra_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: str) -> None:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "distribution", gone)
    (found,) = mistakes(tmp_path, "bind 127.0.0.1 0\ndomain one.test {\nacme yes\n}\n")
    assert found.startswith("conf:3:6: error: the ACME client is not installed")
    assert 'pip install "gkore[acme]"' in found


def test_a_name_is_fine(tmp_path: Path) -> None:
    if not commissions.installed():
        pytest.skip("the extra gkore[acme] is not installed")
    assert mistakes(tmp_path, "bind 127.0.0.1 0\ndomain one.test {\nacme yes\n}\n") == []
