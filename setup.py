"""All is in setup.cfg. What is here is the compiled step: `GKORE_COMPILE=1 pip install .` (docs/performance.md)."""

from __future__ import annotations

import os
from typing import Any

from setuptools import setup

HOT = (
    ("gkore/protocol", "accesslog fields frames head judge line request response"),
    ("gkore/worker", "accesslog answer broadcast connection dispatch ending filtered heap locks"),
    ("gkore/worker", "outbox output peer plan queues ready request routing service waits websocket"),
)
"""What every request passes through; the rest waits for others most of its time."""
MYPYC = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]


def compiled() -> dict[str, Any]:
    """What setuptools needs to know of the compiled step."""
    if os.environ.get("GKORE_COMPILE", "0") in ("", "0"):
        return {}
    try:
        from mypyc.build import mypycify
    except ImportError:  # pip asks first what is needed to build
        return {"setup_requires": ["mypy>=2.4"]}
    paths = [f"{directory}/{name}.py" for directory, names in HOT for name in names.split()]
    return {"ext_modules": mypycify([*MYPYC, *paths], opt_level="3", group_name="gkore")}


setup(**compiled())
