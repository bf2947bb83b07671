"""Run the suite in as many pytest-gevent processes as there are cores (four at most), which share it file by file.

``python tests/abreast.py [WORDS FOR PYTEST]``: the first one's output appears as it comes, that of the others when all
are done. The status is the worst one.

A few tests that failed beside the others are run once more, alone. Those that pass then are named at the end: such a
test is unsteady, or what it tests is, and either wants mending; but a machine that stood still a while fails nobody.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

AGAIN_MAX = 3
"""More failures than these are no accident."""


def main(words: list[str]) -> int:
    width = min(4, len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory(prefix="abreast-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)  # tests that drop privileges read beneath it
        claims = directory / "claims"
        claims.mkdir()

        def command(number: int) -> list[str]:
            # directories of their own: in the one that pytest shares, each start closes what tests of others opened
            return ["pytest-gevent", f"--shared={claims}", f"--basetemp={directory / str(number)}", *words]

        outputs = [directory / f"output{number}" for number in range(1, width)]
        others = []
        for number, output in enumerate(outputs, 1):
            with output.open("wb") as file:
                others.append(subprocess.Popen(command(number), stdout=file, stderr=subprocess.STDOUT))
        try:
            statuses = [subprocess.run(command(0), check=False).returncode]
            statuses += [other.wait() for other in others]
        finally:
            for other in others:
                other.terminate()  # one that is done does not mind
        for output in outputs:
            sys.stdout.write(output.read_text(errors="replace"))
        sys.stdout.flush()
        worst = max(map(abs, statuses))
        failed = [name for file in claims.glob("*.failed") for name in file.read_text().splitlines()]
        if worst != 1 or not 0 < len(failed) <= AGAIN_MAX:
            return worst
        print(f"\nonce more, alone: {' '.join(failed)}", flush=True)
        again = subprocess.run(["pytest-gevent", f"--basetemp={directory / 'again'}", *failed], check=False).returncode
        print(f"\n{'FAILED' if again else 'UNSTEADY, look into it'}: {' '.join(failed)}")
        return again


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
