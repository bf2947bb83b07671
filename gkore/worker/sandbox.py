"""Which system calls a worker may make (seccomp, as Kore 4 on Linux), and the object that ``koreapp.seccomp`` gets.

The filter is a program for the kernel: rules in their order, the application's before ours, the first that fits
decides; what no rule names ends the worker with SIGSYS, or with ``seccomp_tracing`` is noted in the kernel's log and
goes on. It can't be taken off again, and the programs that a worker starts inherit it.

Ours allow what gevent, TLS, PostgreSQL, name lookups, threads, files and child processes need. They leave out what only
somebody who has broken in would want: mounting, tracing, modules, namespaces, changing users, keys, io_uring. Memory
that is written and executed is refused with an error, as are unknown ioctls.

Kore differences: it is in effect when ``seccomp yes``, ``seccomp_tracing yes`` or a hook ask for it, not always; ours
is a wider list: connect, threads and directories are in it.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from typing import NamedTuple

from gkore.errors import StartError

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, ERRNO, KILL, LOG = 0x7FFF0000, 0x00050000, 0x80000000, 0x7FFC0000
LOAD, EQUAL, AT_LEAST, AND, RETURN, ANY_BIT = 0x20, 0x15, 0x35, 0x54, 0x06, 0x45
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data."""
X32 = 0x40000000
SET_MODE_FILTER, TSYNC = 1, 1
WRITE_EXEC = 2 | 4
IOCTLS = (0x5421, 0x541B, 0x5450, 0x5451, 0x5401, 0x5413)
"""FIONBIO, FIONREAD, FIONCLEX, FIOCLEX, TCGETS, TIOCGWINSZ."""

COMMON = """
read write close recvfrom sendto sendmsg recvmsg recvmmsg sendmmsg epoll_wait epoll_pwait epoll_pwait2 epoll_ctl
accept accept4 futex clock_gettime gettimeofday time getpid gettid restart_syscall rt_sigreturn readv writev pread64
pwrite64 preadv pwritev preadv2 pwritev2 sendfile splice tee poll ppoll select pselect6 open openat openat2 creat stat
fstat lstat newfstatat statx statfs fstatfs lseek fcntl dup dup2 dup3 pipe pipe2 access faccessat faccessat2 readlink
readlinkat getdents getdents64 getcwd chdir fchdir mkdir mkdirat rmdir rename renameat renameat2 link linkat unlink
unlinkat symlink symlinkat chmod fchmod fchmodat chown fchown lchown fchownat utime utimes utimensat futimesat
truncate ftruncate fallocate fadvise64 fsync fdatasync sync_file_range flock umask copy_file_range memfd_create
inotify_init inotify_init1 inotify_add_watch inotify_rm_watch getxattr lgetxattr fgetxattr listxattr llistxattr
flistxattr socket socketpair bind listen connect shutdown getsockname getpeername setsockopt getsockopt epoll_create
epoll_create1 eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime timerfd_gettime mmap munmap mremap
mprotect madvise brk msync mlock munlock mincore membarrier rseq clone clone3 fork vfork execve execveat wait4 waitid
exit exit_group kill tgkill tkill pidfd_open pidfd_send_signal set_tid_address set_robust_list get_robust_list
arch_prctl prctl rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend sigaltstack
pause alarm setitimer getitimer timer_create timer_settime timer_gettime timer_delete nanosleep clock_nanosleep
clock_getres sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_getscheduler sched_get_priority_max
sched_get_priority_min getpriority setpriority getrlimit setrlimit prlimit64 getrusage times sysinfo uname getrandom
getuid geteuid getgid getegid getresuid getresgid getgroups getppid getpgrp getpgid setpgid getsid setsid getcpu
capget shmget shmat shmdt shmctl semget semop semctl close_range landlock_create_ruleset landlock_add_rule
landlock_restrict_self seccomp
"""


class Test(NamedTuple):
    """A condition on an argument: ``==`` the value, or the bits of ``mask`` that are set, all or any."""

    argument: int
    value: int
    kind: str


class Sandbox:
    """``obj`` of ``koreapp.seccomp(obj)``: rules that come before ours. RuntimeError for a system call that isn't."""

    def __init__(self) -> None:
        self._program: list[tuple[int, int, int, int]] = []

    def allow(self, name: str) -> None:
        """Allow a system call."""
        self._add(name, ALLOW)

    def allow_arg(self, name: str, arg: int, value: int) -> None:
        """Allow it when argument ``arg`` (from 0) is ``value``."""
        self._add(name, ALLOW, Test(arg, value, "equal"))

    def allow_flag(self, name: str, arg: int, flag: int) -> None:
        """Allow it when a bit of ``flag`` is set in the argument."""
        self._add(name, ALLOW, Test(arg, flag, "any"))

    def allow_mask(self, name: str, arg: int, mask: int) -> None:
        """Allow it when all bits of ``mask`` are set in the argument."""
        self._add(name, ALLOW, Test(arg, mask, "all"))

    def deny(self, name: str, errno: int = errno.EACCES) -> None:
        """Let it fail with an error."""
        self._add(name, ERRNO | errno & 0xFFFF)

    def deny_arg(self, name: str, arg: int, value: int, errno: int = errno.EACCES) -> None:
        """As deny, when argument ``arg`` is ``value``."""
        self._add(name, ERRNO | errno & 0xFFFF, Test(arg, value, "equal"))

    def deny_flag(self, name: str, arg: int, flag: int, errno: int = errno.EACCES) -> None:
        """As deny, when a bit of ``flag`` is set in the argument."""
        self._add(name, ERRNO | errno & 0xFFFF, Test(arg, flag, "any"))

    def deny_mask(self, name: str, arg: int, mask: int, errno: int = errno.EACCES) -> None:
        """As deny, when all bits of ``mask`` are set in the argument."""
        self._add(name, ERRNO | errno & 0xFFFF, Test(arg, mask, "all"))

    def bpf_stmt(self, code: int, k: int) -> None:
        """One instruction of the filter as it is, at this place."""
        self._program.append((code, 0, 0, k))

    def complete(self) -> None:
        """Add our rules behind the application's."""
        for name in ("mmap", "mprotect"):
            self.deny_mask(name, 2, WRITE_EXEC)
        for request in IOCTLS:
            self.allow_arg("ioctl", 1, request)
        self.deny("ioctl")
        self._program.append((LOAD, 0, 0, NUMBER))
        for name in COMMON.split():
            number = resolve(name)
            if number is not None:
                self._program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]

    def install(self, tracing: bool) -> None:
        """Confine this process, all of its threads, for good. OSError when the kernel refuses."""
        other = LOG if tracing else KILL
        machine = platform.machine()
        program = [
            (LOAD, 0, 0, ARCHITECTURE),
            (EQUAL, 1, 0, ARCHITECTURES[machine]),
            (RETURN, 0, 0, KILL),
            (LOAD, 0, 0, NUMBER),
            *([(AT_LEAST, 0, 1, X32), (RETURN, 0, 0, KILL)] if machine == "x86_64" else []),
            *self._program,
            (RETURN, 0, 0, other),
        ]
        code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
        head = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
        call = resolve("seccomp")
        if _libc.syscall(call, SET_MODE_FILTER, TSYNC, head) != 0:
            raise OSError(ctypes.get_errno(), "the kernel does not take seccomp's filter (or say `seccomp no`)")

    def _add(self, name: str, action: int, test: Test | None = None) -> None:
        number = resolve(name)
        if number is None:
            raise RuntimeError(f"system call '{name}' does not exist")
        rest = [*(_tested(test) if test else ()), (RETURN, 0, 0, action)]
        self._program += [(LOAD, 0, 0, NUMBER), (EQUAL, 0, len(rest), number), *_aimed(rest)]


def _tested(test: Test) -> list[tuple[int, int, int, int]]:
    """Instructions that go on when the test holds; a jump by -1 is one behind the rule, where the next begins."""
    low, high = ARGUMENTS + 8 * test.argument, ARGUMENTS + 8 * test.argument + 4
    values = test.value & 0xFFFFFFFF, test.value >> 32 & 0xFFFFFFFF
    if test.kind == "any":
        return [(LOAD, 0, 0, low), (ANY_BIT, 2, 0, values[0]), (LOAD, 0, 0, high), (ANY_BIT, 0, -1, values[1])]
    lines = []
    for offset, value in zip((low, high), values, strict=True):
        lines.append((LOAD, 0, 0, offset))
        if test.kind == "all":
            lines.append((AND, 0, 0, value))
        lines.append((EQUAL, 0, -1, value))
    return lines


def _aimed(lines: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    return [
        (code, true, len(lines) - at - 1 if false < 0 else false, value)
        for at, (code, true, false, value) in enumerate(lines)
    ]


def confine(seccomp: bool, tracing: bool, hook: object) -> None:
    """Put the sandbox around this worker, when conf or application ask for one. StartError when it can't be."""
    if not (seccomp or tracing or hook is not None):
        return
    if _library is None or platform.machine() not in ARCHITECTURES:
        raise StartError("seccomp needs libseccomp.so.2 (Debian: libseccomp2) on x86_64 or aarch64; or `seccomp no`")
    sandbox = Sandbox()
    if callable(hook):
        hook(sandbox)
    sandbox.complete()
    sandbox.install(tracing)


def resolve(name: str) -> int | None:
    """The number of a system call on this machine, None when it has none of that name."""
    if _library is None:
        return None
    number: int = _library.seccomp_syscall_resolve_name(name.encode())
    return number if number >= 0 else None


def _loaded() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None


_libc = ctypes.CDLL(None, use_errno=True)
_library = _loaded()
"""Only for the numbers of names; loaded in the parent, because a worker may be in a chroot."""
