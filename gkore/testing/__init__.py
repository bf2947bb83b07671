"""For tests of applications: ``Client`` calls handlers in this process, ``server`` starts the real thing.

The pytest fixtures ``gkore_client`` and ``gkore_server`` come with gkore; see docs/howto/testing.md.
"""

from gkore.testing.answer import Answer as Answer
from gkore.testing.client import Client as Client
from gkore.testing.server import Server as Server
from gkore.testing.server import server as server
