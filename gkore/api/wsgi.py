"""``kore.wsgi``: WSGI applications as handlers. Ours."""

from __future__ import annotations

from gkore.conf.site import Function
from gkore.worker.wsgi import Application, host


def wsgi(application: Application, mount: str = "") -> Function:
    """A handler that lets a WSGI application answer: ``domain.route("^/", kore.wsgi(app))``.

    ``mount`` is the path that the application is to know as its root (SCRIPT_NAME). TypeError when it isn't callable.
    """
    return host(application, mount)
