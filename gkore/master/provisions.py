"""What workers write to, made for them while this process still may: access logs, the directory of bodies on disk."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from gkore import log
from gkore.errors import StartError
from gkore.logfile import log_file
from gkore.protocol.journal import Journal

if TYPE_CHECKING:
    from gkore.conf.application import Application
    from gkore.conf.site import Site
    from gkore.master.privileges import Privileges


def provide(application: Application, privileges: Privileges) -> None:
    """Open the access logs, and make the directory of bodies, the workers' user its owner. StartError."""
    for domain in application.site.domains:
        if domain.accesslog:
            try:
                log_file(domain.accesslog)
            except OSError as failure:
                wrong = f"{failure.strerror}{_stranger(domain.accesslog)}"
                raise StartError(f"{domain.place}: accesslog {domain.accesslog} can't be opened: {wrong}") from None
    if application.settings.http_body_disk_offload:
        _body_directory(application.settings.http_body_disk_path, privileges)


def _stranger(path: str) -> str:
    """What to do about a file of somebody else: root in a service without CAP_DAC_OVERRIDE may not write it."""
    with suppress(OSError):
        owner = os.stat(path).st_uid
        if owner != os.geteuid():
            return f": it belongs to user {owner}; chown it to user {os.geteuid()}, who opens it for all workers"
    return ""


def new_journal(site: Site) -> Journal | None:
    """Where a worker's lines for the access logs wait; None when the site has no logs. OSError as memfd_create(2)."""
    paths = sorted({domain.accesslog for domain in site.domains if domain.accesslog})
    return Journal(paths) if paths else None


def write_rest(journal: Journal) -> None:
    """Write what a worker that is gone did not get to write, and forget the journal."""
    for path, lines in journal.unwritten():
        try:
            log_file(path).write(lines)
        except OSError as failure:
            log.error(f"access log {path}: {failure.strerror}; {len(lines)} bytes of a worker that died are lost")
    journal.close()


def _body_directory(path: str, privileges: Privileges) -> None:
    where = os.path.join(privileges.root, path.lstrip("/") if privileges.chroot else path)
    try:
        os.makedirs(where, 0o700, exist_ok=True)
        if privileges.user is not None:
            os.chown(where, privileges.user.uid, privileges.user.gid)
    except OSError as failure:
        raise StartError(f"http_body_disk_path {where} can't be given to the workers: {failure.strerror}") from None
