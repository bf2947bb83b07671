"""Which system calls a worker may make (seccomp, as Kore 4 on Linux), and the object that ``koreapp.seccomp`` gets.

The application's rules come before ours; what no rule names ends the worker with SIGSYS, or with ``seccomp_tracing``
is noted in the kernel's log and goes on. The programs that a worker starts are confined, too.

Ours allow what gevent, TLS, PostgreSQL, name lookups, threads, files and child processes need. They leave out what only
somebody who has broken in would want: mounting, tracing, modules, namespaces, changing users, keys, io_uring. Memory
that is written and executed is refused with an error, as are unknown ioctls.

Kore differences: it is in effect when ``seccomp yes``, ``seccomp_tracing yes`` or a hook ask for it, not always; ours
is a wider list: connect, threads and directories are in it.
"""

from __future__ import annotations

import errno

from gkore.errors import StartError
from gkore.seccomp import ALLOW, ERRNO, KILL, LOG, Filter, Test, lacking

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


class Sandbox(Filter):
    """``obj`` of ``koreapp.seccomp(obj)``: rules that come before ours. RuntimeError for a system call that isn't."""

    def allow(self, name: str) -> None:
        """Allow a system call."""
        self.rule(name, ALLOW)

    def allow_arg(self, name: str, arg: int, value: int) -> None:
        """Allow it when argument ``arg`` (from 0) is ``value``."""
        self.rule(name, ALLOW, Test(arg, value, "equal"))

    def allow_flag(self, name: str, arg: int, flag: int) -> None:
        """Allow it when a bit of ``flag`` is set in the argument."""
        self.rule(name, ALLOW, Test(arg, flag, "any"))

    def allow_mask(self, name: str, arg: int, mask: int) -> None:
        """Allow it when all bits of ``mask`` are set in the argument."""
        self.rule(name, ALLOW, Test(arg, mask, "all"))

    def deny(self, name: str, errno: int = errno.EACCES) -> None:
        """Let it fail with an error."""
        self.rule(name, ERRNO | errno & 0xFFFF)

    def deny_arg(self, name: str, arg: int, value: int, errno: int = errno.EACCES) -> None:
        """As deny, when argument ``arg`` is ``value``."""
        self.rule(name, ERRNO | errno & 0xFFFF, Test(arg, value, "equal"))

    def deny_flag(self, name: str, arg: int, flag: int, errno: int = errno.EACCES) -> None:
        """As deny, when a bit of ``flag`` is set in the argument."""
        self.rule(name, ERRNO | errno & 0xFFFF, Test(arg, flag, "any"))

    def deny_mask(self, name: str, arg: int, mask: int, errno: int = errno.EACCES) -> None:
        """As deny, when all bits of ``mask`` are set in the argument."""
        self.rule(name, ERRNO | errno & 0xFFFF, Test(arg, mask, "all"))

    def bpf_stmt(self, code: int, k: int) -> None:
        """One instruction of the filter as it is, at this place."""
        self.statement(code, k)

    def complete(self) -> None:
        """Add our rules behind the application's."""
        for name in ("mmap", "mprotect"):
            self.deny_mask(name, 2, WRITE_EXEC)
        for request in IOCTLS:
            self.allow_arg("ioctl", 1, request)
        self.deny("ioctl")
        self.rules(COMMON, ALLOW)


def confine(seccomp: bool, tracing: bool, hook: object) -> None:
    """Put the sandbox around this worker, when conf or application ask for one. StartError when it can't be."""
    if not (seccomp or tracing or hook is not None):
        return
    if lack := lacking():
        raise StartError(f"{lack}; or `seccomp no`")
    sandbox = Sandbox()
    if callable(hook):
        hook(sandbox)
    sandbox.complete()
    try:
        sandbox.enforce(LOG if tracing else KILL)
    except OSError as failure:
        raise StartError(f"{failure.strerror}; or `seccomp no`") from None
