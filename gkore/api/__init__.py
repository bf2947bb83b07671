"""What user code sees as ``import kore``.

The names, their arguments and their results are Kore's; what is ours says so. The list is in ``docs/reference``.
"""

from gkore.api.awaitables import (
    aio,
    curl,
    curlopt,
    dblisten,
    dbquery,
    dbsetup,
    gather,
    httpclient,
    lock,
    proc,
    pycurlhandle,
    pyhttpclient,
    pylock,
    pyproc,
    pyqueue,
    pysocket,
    queue,
    register_database,
    socket_wrap,
    suspend,
    thread,
)
from gkore.api.bus import sendobj
from gkore.api.constants import *  # noqa: F403
from gkore.api.process import fatal, fatalx, log, setname, shutdown, time, tracer, worker
from gkore.api.site import Domain as pydomain
from gkore.api.site import app, bind, bind_unix, config, domain, listen, prerequest, privsep, route, server
from gkore.api.tasks import coroname, corotrace, pytimer, sigtrap, task_create, task_id, task_kill, timer
from gkore.api.types import connection, http_file, http_request, pyconnection, pyhttp_file, pyhttp_request
from gkore.api.websocket import websocket_broadcast, websocket_publish
from gkore.api.wsgi import wsgi


def __getattr__(name: str) -> object:
    """``kore.CURLOPT_...``: libcurl's options, as pycurl numbers them."""
    if name.startswith("CURLOPT_"):
        return curlopt(name)
    raise AttributeError(f"module 'kore' has no attribute '{name}'")
