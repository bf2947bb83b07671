"""The process that holds the private keys, and signs for the workers (Kore's key manager).

It is told everything over one socket, its feed, in packets: ``K`` a key (PEM), ``E`` the end of what was read at one
time, ``C`` with a descriptor: one worker's channel, ``L`` with one: the log, opened again. A thread a channel reads
requests and answers them (``signing``); OpenSSL signs without the interpreter's lock, so that workers on several cores
don't wait for each other.

- Keys come from a process that is thrown away, which still may read them. This one opens no file, and can become
  anybody at once.
- The keys before the last ``E`` are kept: a worker may not have heard of the new certificate yet.
- The end of the feed means that no more channels come. It ends with the last of them, which is the last worker: so the
  old one serves the old workers to the end after a reload.
- Nobody may look into it, not even processes of the same user: it is not dumpable (prctl(2), ptrace(2)).
- It can do little but what is said here (seccomp(2)): no file, no socket, no process, no memory of code. What else it
  tries is refused with an error; running a program or looking into another process, which only somebody does who has
  broken in, ends it.
"""

from __future__ import annotations

import _socket
import array
import ctypes
import errno
import resource
import signal
import socket
from _thread import stack_size, start_new_thread  # captured before they are patched: these threads block
from posix import close  # not os.close: see log
from signal import signal as handle
from time import monotonic, sleep

from gkore import log
from gkore.keys.openssl import PrivateKey
from gkore.keys.signing import PACKET_MAX, answer, read_request
from gkore.seccomp import ALLOW, ERRNO, KILL, Filter, Test, lacking

KEY, END, CHANNEL, LOG = b"K", b"E", b"C", b"L"
PEM_MAX = 65536
PR_SET_DUMPABLE = 4
STACK = 512 * 1024
UNHEARD = 20
"""Looks, 10 ms apart, for a key that is on its way to us: workers may hear of a new certificate first."""
FIRST = 2.0
"""Seconds of our life in which nothing is refused before all keys were told: workers may be ready sooner than we."""

CALLS = """
recvmsg recvfrom sendmsg sendto getsockname read write close dup3 futex clock_gettime clock_nanosleep nanosleep
gettimeofday time getrandom getpid gettid getrusage sysinfo sched_yield sched_getaffinity mmap munmap mremap mprotect
madvise brk membarrier rseq set_robust_list sigaltstack rt_sigreturn rt_sigaction rt_sigprocmask restart_syscall tgkill
exit exit_group
"""
BREAK_IN = "execve execveat ptrace process_vm_readv process_vm_writev"
FIONBIO, PROT_EXEC, CLONE_THREAD = 0x5421, 4, 0x10000


class Ring:
    """The keys, by their names."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        """Channels, by their descriptors."""
        self._coming: dict[bytes, PrivateKey] = {}
        self._before: dict[bytes, PrivateKey] = {}
        self._keys: dict[bytes, PrivateKey] = {}
        self._patient = monotonic() + FIRST

    def add(self, pem: bytes) -> None:
        try:
            key = PrivateKey(pem)
        except ValueError as failure:
            log.error(f"a certkey can't be used, its TLS handshakes fail: {failure}; SIGUSR1 reads all again")
        else:
            self._coming[key.name] = key
            self._keys = {**self._keys, key.name: key}

    def turn(self) -> bytes:
        """All that was read at one time is there: forget what is older than the time before. The names of the new."""
        coming, self._coming = self._coming, {}
        self._keys, self._before = {**self._before, **coming}, coming
        self._patient = 0.0
        return b"".join(coming)

    def find(self, name: bytes) -> PrivateKey | None:
        looks = 0
        while looks < UNHEARD or monotonic() < self._patient:
            if name in self._keys:
                return self._keys[name]
            looks += 1
            sleep(0.01)
        return None


def serve(feed: _socket.socket) -> None:
    """Sign until the feed and all channels have ended."""
    harden()
    confine()
    stack_size(STACK)
    ring = Ring()
    while True:
        packet, descriptor = receive(feed)
        if not packet:
            break
        word, rest = packet[:1], packet[1:]
        if word == KEY:
            ring.add(rest)
        elif word == END:
            feed.send(END + ring.turn())
        elif word == CHANNEL and descriptor is not None:
            ring.open.add(descriptor)
            start_new_thread(_listen, (ring, descriptor))
        elif word == LOG and descriptor is not None:
            log.log.adopt(descriptor)
            close(descriptor)
    feed.close()
    while ring.open:
        sleep(0.05)


def harden() -> None:
    """Out of reach of debuggers, core files and signals meant for the whole group: it ends by its feed."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        handle(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def confine() -> None:
    """Leave this process the system calls that it needs, where the machine can do that."""
    calls = Filter()
    wrong = lacking()
    if not wrong:
        calls.rules(BREAK_IN, KILL)
        for name in ("mmap", "mprotect"):
            calls.rule(name, ERRNO | errno.EPERM, Test(2, PROT_EXEC, "any"))
        calls.rule("ioctl", ALLOW, Test(1, FIONBIO, "equal"))
        calls.rules("clone3", ERRNO | errno.ENOSYS)  # its flags are out of a filter's sight; glibc then takes clone
        calls.rule("clone", ALLOW, Test(0, CLONE_THREAD, "all"))
        calls.rules(CALLS, ALLOW)
        try:
            calls.enforce(ERRNO | errno.EPERM)
        except OSError as failure:
            wrong = str(failure.strerror)
    if wrong:
        log.notice(f"the key manager signs without a filter for system calls: {wrong}")


def receive(feed: _socket.socket) -> tuple[bytes, int | None]:
    """One packet of a feed, and the descriptor that came with it."""
    try:
        packet, extra, _, _ = feed.recvmsg(PEM_MAX + 1, socket.CMSG_SPACE(4))
    except OSError:
        return b"", None
    descriptors = array.array("i")
    for _, _, data in extra:
        descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return packet, descriptors[0] if descriptors else None


def _listen(ring: Ring, descriptor: int) -> None:
    """One worker's channel, to its end."""
    sock = _socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptor)
    sock.setblocking(True)
    try:
        while packet := sock.recv(PACKET_MAX):
            request = read_request(packet)
            if request is None:
                log.error("a worker asked for something that is no signature: refused, nothing else is done for it")
                continue
            key = ring.find(request.key)
            sock.send(answer(request.number, key.sign(request) if key is not None else b""))
    except OSError:
        pass
    finally:
        ring.open.discard(descriptor)
        sock.close()
