"""The real server for tests: gkore's own, see ``gkore.testing.server``."""

from gkore.testing.answer import Answer as Answer
from gkore.testing.server import DEADLINE as DEADLINE
from gkore.testing.server import HOME as REPOSITORY  # noqa: F401
from gkore.testing.server import Server as Server
from gkore.testing.server import server as server
from gkore.testing.server import until as until
