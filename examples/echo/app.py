import os
import socket

import kore

kore.server(ip="127.0.0.1", port="8888", tls=False)
kore.domain("*")

door = socket.socket()
door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
door.bind(("127.0.0.1", int(os.environ.get("ECHO_PORT", "8889"))))
door.listen()

echoed = 0


async def accept() -> None:
    listening = kore.socket_wrap(door)
    while True:
        client = await listening.accept()
        kore.task_create(echo(client))


async def echo(client: kore.pysocket) -> None:
    global echoed
    try:
        while data := await client.recv(4096):
            await client.send(data)
            echoed += len(data)
    finally:
        client.close()


kore.task_create(accept())


@kore.route("/", methods=["get"])
def index(req: kore.http_request) -> None:
    """How much this worker has echoed."""
    req.response(200, f"worker {kore.worker()}: {echoed} bytes\n")
