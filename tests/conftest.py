"""Several pytest processes may share one suite: ``--shared DIRECTORY``, see ``tests/abreast.py``.

(pytest also puts the directory of a conftest on the path, so that tests say ``from corpus import ...``.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples each time, however slow the machine: a run that passes here passes everywhere.
# HYPOTHESIS_PROFILE=default looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shared", type=Path, metavar="DIRECTORY", help="run the files that no other process has claimed there"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Files are claimed one after the other, by whoever comes first; the tests of a file stay together."""
    claims: Path | None = session.config.getoption("--shared")
    if claims is None or session.testsfailed or session.config.option.collectonly:
        return None
    items = _claimed(session, claims)
    item = next(items, None)
    while item is not None:
        following = next(items, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell the others' starter which tests failed, one name a line."""
    shared: Path | None = config.getoption("--shared")
    if shared is not None:
        found = [report.nodeid for kind in ("failed", "error") for report in terminalreporter.stats.get(kind, ())]
        (shared / f"{os.getpid()}.failed").write_text("".join(f"{name}\n" for name in dict.fromkeys(found)))


def _claimed(session: pytest.Session, claims: Path) -> Iterator[pytest.Item]:
    for path, items in groupby(session.items, lambda item: item.path):
        claim = claims / str(path.relative_to(session.config.rootpath)).replace("/", ".")
        try:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        yield from items
