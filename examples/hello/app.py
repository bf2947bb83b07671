import kore

kore.server(ip="127.0.0.1", port="8888", tls=False)
kore.domain("*")


@kore.route("/", methods=["get"], get={"name": "^[A-Za-z][A-Za-z '-]{0,40}$"})
def hello(req: kore.http_request) -> None:
    """Greet somebody by name."""
    req.populate_get()
    req.response(200, f"Hello, {req.argument('name') or 'world'}!\n")
