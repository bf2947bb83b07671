"""What is left of a process after ``apply``, and what ``plan`` makes of a conf."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gkore.conf.site import Site
from gkore.master.privileges import plan

APPLY = """
import json, os, resource, sys
from gkore.master.privileges import Privileges, User
Privileges(300, "", False, User("somebody", 65534, 65533, (65533, 4242, 4243))).apply()
found = {"uids": os.getresuid(), "gids": os.getresgid(), "groups": sorted(os.getgroups())}
for name, action in (("root", lambda: os.setuid(0)), ("groups again", lambda: os.setgroups([0]))):
    try:
        action()
    except PermissionError:
        found[name] = "refused"
print(json.dumps(found))
"""
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@ROOT_ONLY
def test_ids_and_supplementary_groups_and_no_way_back() -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    found = json.loads(subprocess.run([sys.executable, "-c", APPLY], env=env, check=True, capture_output=True).stdout)
    assert found == {
        "uids": [65534] * 3,
        "gids": [65533] * 3,
        "groups": [4242, 4243, 65533],
        "root": "refused",
        "groups again": "refused",
    }


def application(**processes: dict[str, object]) -> SimpleNamespace:
    site = Site()
    for name, fields in processes.items():
        privsep = site.privsep(name)
        for field, value in fields.items():
            setattr(privsep, field, value)
    settings = SimpleNamespace(worker_rlimit_nofiles=100)
    return SimpleNamespace(site=site, settings=settings, no_chroot=False, no_runas=False)


@ROOT_ONLY
def test_a_process_of_which_nothing_is_said_is_as_the_workers(tmp_path: Path) -> None:
    made = application(worker={"runas": "nobody", "root": str(tmp_path)}, keymgr={"skip": {"chroot"}})
    nobody = pwd.getpwnam("nobody")
    keymgr = plan(made, "keymgr")  # type: ignore[arg-type]
    assert keymgr.user is not None
    assert (keymgr.user.uid, keymgr.user.gid) == (nobody.pw_uid, nobody.pw_gid)
    assert list(keymgr.user.groups) == os.getgrouplist("nobody", nobody.pw_gid)
    assert (keymgr.root, keymgr.chroot) == (str(tmp_path), False)
    assert plan(made).chroot  # type: ignore[arg-type]
    made.no_chroot = made.no_runas = True
    assert (plan(made).user, plan(made).chroot) == (None, False)  # type: ignore[arg-type]
