"""gkore's and Kore's applications."""

import kore


def hello(req):
    req.response_header("content-type", "text/plain")
    req.response(200, b"hello world")


async def hello_async(req):
    req.response_header("content-type", "text/plain")
    req.response(200, b"hello world")


async def suspend(req):
    await kore.suspend(1)
    req.response_header("content-type", "text/plain")
    req.response(200, b"hello world")
