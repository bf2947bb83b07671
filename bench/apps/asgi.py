"""uvicorn's applications: ASGI without a framework."""

import asyncio

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"11")],
}
BODY = {"type": "http.response.body", "body": b"hello world"}


async def hello(scope, receive, send):
    await send(START)
    await send(BODY)


async def suspend(scope, receive, send):
    await asyncio.sleep(0.001)
    await send(START)
    await send(BODY)


async def echo(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] != "websocket.receive":
            return
        await send({"type": "websocket.send", "bytes": message["bytes"]})
