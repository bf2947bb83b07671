import kore


def hello(req: kore.http_request) -> None:
    """Greet somebody by name."""
    req.populate_get()
    req.response(200, f"Hello, {req.argument('name') or 'world'}!\n")
