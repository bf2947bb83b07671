import kore

kore.server(ip="127.0.0.1", port="8888", tls=False)
kore.domain("*")


@kore.route("/sort", methods=["post"])
async def sort(req: kore.http_request) -> None:
    """Sort the lines of the body, as numbers."""
    program = kore.proc("sort -n", 5000)
    try:
        await program.send(req.body)
        program.close_stdin()
        pieces = []
        while piece := await program.recv(8192):
            pieces.append(piece)
        status = await program.reap()
    except TimeoutError:
        program.kill()
        await program.reap()
        req.response(504, "sort took too long\n")
        return
    req.response(200 if status == 0 else 500, b"".join(pieces))


@kore.route("/sleep", methods=["get"])
async def sleep(req: kore.http_request) -> None:
    """A program that takes longer than it may."""
    program = kore.proc("sleep 60", 100)
    try:
        await program.reap()
        req.response(200)
    except TimeoutError:
        program.kill()
        await program.reap()
        req.response(504, "too late\n")
