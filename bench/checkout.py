"""The server of this checkout with an application of the bench's own, for what is no comparison."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.running import free_port

STOP_SECONDS = 40.0


@dataclass(slots=True)
class Checkout:
    """A gkore that runs; ``control`` is its control socket."""

    process: subprocess.Popen[str]
    port: int
    control: Path
    said: list[str] = field(default_factory=list)
    """Its log, line by line."""

    @property
    def pid(self) -> int:
        """The master's."""
        return self.process.pid

    def read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(self.process.stderr)

    def count(self, text: str) -> int:
        """How many lines of the log say ``text``."""
        return sum(text in line for line in self.said)


@contextmanager
def serve(app: str, conf: str, before: tuple[str, ...] = ()) -> Iterator[Checkout]:
    """Run ``conf``, in which ``{port}`` is a free one, with ``app`` as app.py; ready when it is yielded.

    ``before`` stands before the command (taskset, chrt). RuntimeError with its log when it does not start.
    """
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        Path(directory, "app.py").write_text(app)
        Path(directory, "kore.conf").write_text(conf.format(port=port))
        path = os.pathsep.join((str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "gkore", "-nrc", "kore.conf"],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        server = Checkout(process, port, Path(directory, "kore.control"))
        try:
            assert process.stderr is not None
            for line in process.stderr:
                server.said.append(line)
                if "log=[ready: " in line:
                    break
            else:
                raise RuntimeError("".join(server.said))
            reader = threading.Thread(target=server.read)
            reader.start()
            yield server
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)
        reader.join()
