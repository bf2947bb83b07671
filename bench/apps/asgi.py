"""uvicorn's applications: ASGI without a framework."""

import asyncio
import os

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


mutex = asyncio.Lock()


async def lock(scope, receive, send):
    async with mutex:
        await asyncio.sleep(0)
    await hello(scope, receive, send)


asked = asyncio.Queue()
servant = []


async def serve():
    while True:
        replies = await asked.get()
        replies.put_nowait("pong")


async def queue(scope, receive, send):
    if not servant:
        servant.append(asyncio.create_task(serve()))
    replies = asyncio.Queue()
    asked.put_nowait(replies)
    await replies.get()
    await hello(scope, receive, send)


async def member():
    await asyncio.sleep(0)


async def gather(scope, receive, send):
    await asyncio.gather(*[member() for _ in range(10)])
    await hello(scope, receive, send)


async def postgres(scope, receive, send):
    if not servant:
        import asyncpg

        words = dict(word.split("=") for word in os.environ["BENCH_DSN"].split())
        pool = asyncpg.create_pool(
            host=words["host"], user=words["user"], database=words["dbname"], min_size=10, max_size=10
        )
        servant.append(pool)
        await pool
    row = await servant[0].fetchrow("select id, name from bench where id = $1", 4711)
    await send(START)
    await send({"type": "http.response.body", "body": row["name"].encode()})


async def proc(scope, receive, send):
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec("/bin/cat", stdin=pipe, stdout=pipe)
    text, _ = await child.communicate(b"hello world")
    await send(START)
    await send({"type": "http.response.body", "body": text})
