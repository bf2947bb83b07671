"""gkore's and Kore's applications."""

import os

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
    kore.websocket_broadcast(c, op, data, kore.WEBSOCKET_BROADCAST_GLOBAL)


def upgrade(req, told):
    try:
        req.websocket_handshake(connected, told, connected)
    except TypeError:  # Kore 4.1 and older take names
        req.websocket_handshake("connected", told.__name__, "connected")


def echo(req):
    upgrade(req, echoed)


def broadcast(req):
    upgrade(req, said)


def answer(req):
    req.response_header("content-type", "text/plain")
    req.response(200, b"hello world")


mutex = kore.lock()


async def lock(req):
    async with mutex:
        await kore.suspend(0)
    answer(req)


asked = kore.queue()
servant = []


async def serve():
    while True:
        replies = await asked.pop()
        replies.push("pong")


async def queue(req):
    if not servant:
        servant.append(kore.task_create(serve()))
    replies = kore.queue()
    asked.push(replies)
    await replies.pop()
    answer(req)


async def member():
    await kore.suspend(0)


async def gather(req):
    await kore.gather(*[member() for _ in range(10)])
    answer(req)


async def postgres(req):
    if not servant:
        servant.append(kore.dbsetup("bench", os.environ["BENCH_DSN"]))
    rows = await kore.dbquery("bench", "select id, name from bench where id = $1", params=["4711"])
    req.response_header("content-type", "text/plain")
    req.response(200, rows[0]["name"].encode())


async def proc(req):
    child = kore.proc("/bin/cat")
    await child.send(b"hello world")
    child.close_stdin()
    text = await child.recv(100)
    await child.reap()
    req.response_header("content-type", "text/plain")
    req.response(200, text)
