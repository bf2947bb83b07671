"""What the tests of coroutines share besides fixtures."""

from collections.abc import Callable
from typing import Any

Complete = Callable[..., Any]
"""The fixture ``complete``: runs a coroutine and gives its result."""
