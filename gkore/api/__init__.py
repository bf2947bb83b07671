"""What user code sees as ``import kore``.

The names, their arguments and their results are Kore's; what is ours says so. The list is in ``docs/reference``.
"""

from gkore.api.awaitables import suspend
from gkore.api.bus import sendobj
from gkore.api.constants import *  # noqa: F403
from gkore.api.process import fatal, fatalx, log, setname, shutdown, time, tracer, worker
from gkore.api.site import app, config, domain, privsep, route, server
from gkore.api.websocket import websocket_broadcast, websocket_publish
