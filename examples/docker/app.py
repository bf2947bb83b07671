import os

import kore


def hello(req: kore.http_request) -> None:
    """Say from where."""
    req.response(200, f"hello from process {os.getpid()}, user {os.getuid()}\n")
