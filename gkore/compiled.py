"""The compiled step, for whoever wants it: `GKORE_COMPILE=1` at installation makes C of the hot path, with mypyc.

The source is the same, and so is what it does; without that step Python runs it. What is compiled is listed in
``setup.py``. Classes there whose subclasses are not compiled say so with ``mypyc_attr``, which is nothing to Python.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**_: Any) -> Any:
        """Say something to mypyc about a class."""
        return lambda cls: cls


def is_compiled() -> bool:
    """Whether the hot path was compiled when gkore was installed."""
    spec = find_spec("gkore.protocol.head")
    return spec is not None and not str(spec.origin).endswith(".py")
