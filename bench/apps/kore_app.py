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


def params(req):
    req.populate_get()
    req.response_header("content-type", "text/plain")
    req.response(200, f"{req.argument('id')} {req.argument('name')} {req.argument('page')}".encode())


def form(req):
    req.populate_post()
    req.response_header("content-type", "text/plain")
    req.response(200, f"{req.argument('id')} {req.argument('name')} {len(req.argument('text'))}".encode())


def upload(req):
    req.populate_multi()
    file = req.file_lookup("file")
    size = 0
    while True:
        length, _ = file.read(1024)
        if not length:
            break
        size += length
    req.response_header("content-type", "text/plain")
    req.response(200, str(size).encode())


def connected(c):
    pass


def echoed(c, op, data):
    c.websocket_send(op, data)


def said(c, op, data):
    kore.websocket_broadcast(c, op, data, kore.WEBSOCKET_BROADCAST_LOCAL)


def echo(req):
    req.websocket_handshake(connected, echoed, connected)


def broadcast(req):
    req.websocket_handshake(connected, said, connected)
