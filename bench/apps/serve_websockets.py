"""websockets' own server: echo, and its own ``broadcast``."""

import asyncio
import sys

from websockets.asyncio.server import broadcast, serve

everybody = set()


async def talk(socket):
    if socket.request.path == "/echo":
        async for message in socket:
            await socket.send(message)
        return
    everybody.add(socket)
    try:
        async for message in socket:
            broadcast(everybody - {socket}, message)
    finally:
        everybody.discard(socket)


async def main(port: int) -> None:
    async with serve(talk, "127.0.0.1", port, compression=None, ping_interval=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.install()
    except ImportError:
        pass
    asyncio.run(main(int(sys.argv[2])))
