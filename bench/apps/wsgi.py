"""granian's, bjoern's and gunicorn's applications: WSGI without a framework."""

import time

HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "11")]


def hello(environ, start_response):
    start_response("200 OK", HEADERS)
    return [b"hello world"]


def suspend(environ, start_response):
    time.sleep(0.001)  # patched by gunicorn's gevent worker: a greenlet switch
    start_response("200 OK", HEADERS)
    return [b"hello world"]
