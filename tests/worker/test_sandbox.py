"""Rules of ``koreapp.seccomp``, each in a process that is confined by them: who is allowed, who gets which error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CONFINED = """
import ctypes, os, sys
from gkore.seccomp import KILL, resolve
from gkore.worker import sandbox
rules = sandbox.Sandbox()
exec(sys.argv[1])
rules.complete()
rules.enforce(KILL)
libc = ctypes.CDLL(None, use_errno=True)
for words in sys.argv[2:]:
    name, *arguments = words.split()
    ctypes.set_errno(0)
    libc.syscall(resolve(name), *(ctypes.c_long(int(word)) for word in arguments))
    os.write(1, b"%d " % ctypes.get_errno())
"""
HIGH = 1 << 32


def errors(rules: str, *calls: str) -> list[int] | signal.Signals:
    """The errno of each call (a name and numbers), 0 for none; or the signal that ended the process."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", CONFINED, rules, *calls]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    if done.returncode < 0:
        return signal.Signals(-done.returncode)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


pytestmark = pytest.mark.skipif(
    subprocess.run(
        [sys.executable, "-c", "import ctypes; ctypes.CDLL('libseccomp.so.2')"], capture_output=True, check=False
    ).returncode
    != 0,
    reason="there is no libseccomp.so.2: the rules of the sandbox are NOT tested",
)


def test_what_no_rule_names_ends_the_process() -> None:
    assert errors("", "ioprio_get 1 0") is signal.SIGSYS
    assert errors("rules.allow('ioprio_get')", "ioprio_get 1 0") == [0]


def test_arguments_that_are_allowed() -> None:
    rule = "rules.allow_arg('ioprio_get', 0, 1)"
    assert errors(rule, "ioprio_get 1 0") == [0]
    assert errors(rule, "ioprio_get 2 0") is signal.SIGSYS


@pytest.mark.parametrize(("value", "passes"), [(1, True), (2, True), (3, True), (7, True), (4, False), (0, False)])
def test_bits_of_which_any_allows(value: int, passes: bool) -> None:
    rule = "rules.allow_flag('ioprio_get', 0, 3)"
    assert (errors(rule, f"ioprio_get {value} 0") != signal.SIGSYS) is passes


@pytest.mark.parametrize(("value", "passes"), [(3, True), (7, True), (1, False), (2, False), (0, False)])
def test_bits_of_which_all_allow(value: int, passes: bool) -> None:
    assert (errors("rules.allow_mask('ioprio_get', 0, 3)", f"ioprio_get {value} 0") != signal.SIGSYS) is passes


def test_arguments_that_are_denied() -> None:
    assert errors("rules.deny_arg('getpriority', 0, 1, errno=28)", "getpriority 1 0", "getpriority 0 0") == [28, 0]


def test_bits_of_which_any_denies() -> None:
    assert errors("rules.deny_flag('umask', 0, 0o22, errno=28)", *(f"umask {bits}" for bits in (2, 16, 18, 4))) == [
        28, 28, 28, 0,
    ]  # fmt: skip


def test_bits_of_which_all_deny() -> None:
    assert errors("rules.deny_mask('umask', 0, 0o22, errno=28)", *(f"umask {bits}" for bits in (2, 16, 18, 22))) == [
        0, 0, 28, 28,
    ]  # fmt: skip


@pytest.mark.parametrize("rule", ["deny_arg", "deny_flag", "deny_mask"])
def test_arguments_have_64_bits(rule: str) -> None:
    calls = [f"lseek 0 {offset} 0" for offset in (HIGH, 0, 1)]
    command = f"rules.{rule}('lseek', 1, {HIGH}, errno=28)"
    assert errors(f"os.dup2(os.open('/dev/zero', 0), 0); {command}", *calls) == [28, 0, 0]


def test_the_first_rule_that_fits_decides() -> None:
    rules = "rules.deny_arg('umask', 0, 2, errno=28); rules.allow('umask'); rules.deny('umask')"
    assert errors(rules, "umask 2", "umask 4") == [28, 0]


def test_an_instruction_of_ones_own() -> None:
    assert errors("rules.bpf_stmt(0x06, 0x7fff0000)", "ioprio_get 1 0") == [0]


def test_a_call_that_does_not_exist() -> None:
    rule = "\ntry:\n    rules.allow('no_such_call')\nexcept RuntimeError as failure:\n    os.write(1, b'7 ')"
    assert errors(rule) == [7]
