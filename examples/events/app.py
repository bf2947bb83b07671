from collections.abc import AsyncIterator

import kore

kore.server(ip="127.0.0.1", port="8888", tls=False)
kore.domain("*")

listeners: set[kore.pyqueue] = set()


class App:
    def onmsg(self, text: str) -> None:
        """Somebody said something, on whatever worker."""
        for queue in listeners:
            queue.push(text)


koreapp = App()


@kore.route("/events", methods=["get"])
async def events(req: kore.http_request) -> None:
    """What is said from now on."""
    req.response_header("content-type", "text/event-stream")
    req.response_header("cache-control", "no-store")
    req.response(200, heard())


async def heard() -> AsyncIterator[str]:
    queue = kore.queue()
    listeners.add(queue)
    try:
        yield ": listening\n\n"
        while True:
            text = await queue.pop()
            yield "".join(f"data: {line}\n" for line in text.split("\n")) + "\n"
    finally:
        listeners.discard(queue)


@kore.route("/say", methods=["post"], post={"text": "^[^\r]{1,1000}$"})
def say(req: kore.http_request) -> None:
    """Say something to all who listen."""
    req.populate_post()
    text = req.argument("text")
    if text is None:
        req.response(400, "text=..., please\n")
        return
    kore.sendobj(text)
    req.response(202)
