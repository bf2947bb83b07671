"""The real server for tests: gkore's own, see ``gkore.testing.server``."""

from pathlib import Path

from gkore.testing.answer import Answer as Answer
from gkore.testing.server import DEADLINE as DEADLINE
from gkore.testing.server import Server as Server
from gkore.testing.server import server as server
from gkore.testing.server import until as until

REPOSITORY = Path(__file__).parents[2]
"""Where etc/ is; gkore itself may be imported from elsewhere."""
