"""What workers write to, made for them while this process still may: access logs, the directory of bodies on disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gkore.errors import StartError
from gkore.logfile import log_file

if TYPE_CHECKING:
    from gkore.conf.application import Application
    from gkore.master.privileges import Privileges


def provide(application: Application, privileges: Privileges) -> None:
    """Open the access logs and make the directory of bodies, the workers' user their owner. StartError."""
    for domain in application.site.domains:
        if domain.accesslog:
            try:
                opened = log_file(domain.accesslog)
                if privileges.user is not None:
                    opened.give(privileges.user.uid, privileges.user.gid)
            except OSError as failure:
                raise StartError(f"{domain.place}: accesslog {domain.accesslog}: {failure.strerror}") from None
    if application.settings.http_body_disk_offload:
        _body_directory(application.settings.http_body_disk_path, privileges)


def _body_directory(path: str, privileges: Privileges) -> None:
    where = os.path.join(privileges.root, path.lstrip("/") if privileges.chroot else path)
    try:
        os.makedirs(where, 0o700, exist_ok=True)
        if privileges.user is not None:
            os.chown(where, privileges.user.uid, privileges.user.gid)
    except OSError as failure:
        raise StartError(f"http_body_disk_path {where}: {failure.strerror}") from None
