import kore


def hello(req: kore.http_request) -> None:
    """A Kore handler."""
    req.response(200, "Hello from Kore!\n")
