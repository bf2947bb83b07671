"""Settings: defaults, where values come from, and kore.config."""

from __future__ import annotations

import os

import pytest
from reading import read

from gkore import api
from gkore.conf.application import Application, adopt, current
from gkore.conf.settings import Settings, printed


def test_defaults_are_kores_or_the_machines() -> None:
    settings = Settings()
    assert settings.workers == len(os.sched_getaffinity(0))
    assert (settings.http_header_max, settings.http_headers_max, settings.http_keepalive_time) == (8192, 100, 20)
    assert settings.worker_set_affinity is True
    assert settings.http_media_type == {}
    assert settings.origin("workers") == "default"


def test_containers_are_not_shared() -> None:
    first, second = Settings(), Settings()
    first.assign("worker_no_accept", 1, "kore.config")
    assert (first.worker_no_accept, second.worker_no_accept) == ([1], [])


def test_what_repeats_grows_or_is_replaced() -> None:
    text = "worker_no_accept 1 2\nworker_no_accept 3\nhttp_media_type a/b x .y\nhttp_media_type c/d y\n"
    application, mistakes = read(text + "workers 1\nworkers 2")
    assert mistakes == []
    settings = application.settings
    assert settings.worker_no_accept == [1, 2, 3]
    assert settings.http_media_type == {"x": "a/b", "y": "c/d"}
    assert settings.workers == 2
    assert settings.origin("workers") == "kore.conf:6"


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("workers", 3, 3),
        ("workers", "3", 3),
        ("http_pretty_error", "yes", True),
        ("http_pretty_error", False, False),
        ("worker_set_affinity", 0, False),
        ("worker_no_accept", [1, 2], [1, 2]),
        ("pidfile", "", ""),
        ("http_server_version", "a b # c", "a b # c"),
    ],
)
def test_config_from_python(name: str, value: object, kept: object) -> None:
    adopt(Application())
    setattr(api.config, name, value)
    assert getattr(api.config, name) == kept
    assert current().settings.origin(name) == "kore.config"


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("workers", 0, ValueError),
        ("workers", "many", ValueError),
        ("workers", None, ValueError),
        ("workers", 1.5, ValueError),
        ("pidfile", "a\nworkers 3", ValueError),
        ("wrkers", 3, AttributeError),
        ("bind", "127.0.0.1 80", AttributeError),
    ],
)
def test_config_refuses_what_a_conf_refuses(name: str, value: object, error: type[Exception]) -> None:
    adopt(Application())
    with pytest.raises(error):
        setattr(api.config, name, value)


def test_config_not_strict_passes_over_unknown_names() -> None:
    adopt(Application())
    api.config.config_strict = False
    api.config.frobnicate = 3


def test_settings_are_final_after_the_start() -> None:
    application = adopt(Application())
    application.settings.freeze()
    with pytest.raises(RuntimeError, match="configured cannot be changed at runtime"):
        api.config.workers = 3


def test_printed_settings_name_their_origin() -> None:
    application, _ = read("workers 3\ntrusted_proxies 10.0.0.0/8 unix")
    lines = {line.split()[0]: line for line in printed(application.settings).splitlines()}
    assert lines["workers"].split() == ["workers", "3", "kore.conf:1"]
    assert lines["trusted_proxies"].split() == ["trusted_proxies", "10.0.0.0/8", "unix", "kore.conf:2"]
    assert lines["logfile"].split() == ["logfile", "-", "default"]
