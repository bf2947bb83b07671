"""What a worker gives up before it runs a line of user code: rlimits, chroot, groups, group, user, in that order.

The order is forced: the user is looked up while /etc/passwd can still be seen, chroot needs root, groups must go while
we may still change them, and the user goes last because nothing can be done after it. Any failure is a failed start of
the worker; "continue as root" does not exist.

Kore differences: without a declared ``root`` there is no chroot (Kore takes the current directory, where imports, DNS
and time zones then fail); the user's supplementary groups are kept (Kore keeps the primary group only).
"""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gkore import log
from gkore.errors import StartError

if TYPE_CHECKING:
    from gkore.conf.application import Application

PR_SET_NO_NEW_PRIVS = 38


@dataclass(slots=True, frozen=True)
class User:
    """Whom a worker becomes."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(slots=True, frozen=True)
class Privileges:
    """What a worker will keep; made by the master, applied by each child."""

    files: int
    """Descriptors that it may open beyond those that it inherits."""
    root: str = ""
    chroot: bool = False
    user: User | None = None

    def apply(self) -> None:
        """Give up everything else. OSError names the step; the caller must not go on after it."""
        _raise_files(self.files)
        if self.root:
            if self.chroot:
                os.chroot(self.root)
            os.chdir("/" if self.chroot else self.root)
        if self.user is not None:
            _become(self.user)
        _no_new_privileges()


def plan(application: Application, process: str = "worker") -> Privileges:
    """What the conf and the flags -n and -r ask for; StartError when this process can't grant it.

    What nothing is said about is as with the workers (as Kore).
    """
    privsep, worker = application.site.privsep(process), application.site.privsep("worker")
    if privsep is not worker:
        runas, root = privsep.runas or worker.runas, privsep.root or worker.root
        privsep = replace(privsep, runas=runas, root=root)
    root = os.path.abspath(privsep.root) if privsep.root else ""
    chroot = bool(root) and not application.no_chroot and "chroot" not in privsep.skip
    runas = "" if application.no_runas else privsep.runas
    user = _user(runas, str(privsep.runas_place)) if runas else None
    if root and not os.path.isdir(root):
        raise StartError(f"{privsep.place}: root {root}: no such directory; make it, or remove the line")
    if os.geteuid() != 0:
        if chroot:
            raise StartError(f"{privsep.place}: only root can chroot to {root}; start as root, or skip it with -n")
        if user is not None and user.uid != os.geteuid():
            raise StartError(
                f"{privsep.runas_place}: only root can run workers as {runas}; start as root, or skip it with -r"
            )
        user = None
    return Privileges(application.settings.worker_rlimit_nofiles, root, chroot, user)


def _user(name: str, place: str) -> User:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise StartError(f"{place}: runas {name}: no such user; create it or skip it with -r") from None
    return User(name, entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(name, entry.pw_gid)))


def _raise_files(files: int) -> None:
    """Allow ``files`` more than are open now, as far as the hard limit goes; root moves the hard limit too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + len(os.listdir("/proc/self/fd"))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (ValueError, OSError):  # not root, or more than fs.nr_open
        ways = "LimitNOFILE= of systemd, `ulimit -Hn` of a shell"
        log.notice(f"worker_rlimit_nofiles {files} is out of reach: {hard} files is the hard limit here ({ways})")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _become(user: User) -> None:
    if os.geteuid() == 0:
        os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    if os.getresuid() != (user.uid,) * 3 or os.getresgid() != (user.gid,) * 3:
        raise PermissionError(f"the kernel did not make this process {user.name}")


def _no_new_privileges() -> None:
    """So that no set-uid program gives back what was given up (prctl(2); as Kore 4 on Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"PR_SET_NO_NEW_PRIVS: {os.strerror(number)}")
