"""What malloc keeps in a worker."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys
from gkore.worker import heap

class Mallinfo2(ctypes.Structure):  # mallinfo2(3)
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Mallinfo2
if sys.argv[1] == "kept":
    heap.keep()
blocks = [bytes(100_000) for _ in range(30)]
del blocks
print(mallinfo2().keepcost)
"""


@pytest.mark.parametrize("how", ["kept", "plain"])
def test_freed_memory_stays_for_the_next_message(how: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=60, check=False)
    if "mallinfo2" in done.stderr:
        pytest.skip("this C library has no mallinfo2")
    assert (int(done.stdout) > 2_000_000) is (how == "kept"), done.stdout
