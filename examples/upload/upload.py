import hashlib
import json
from pathlib import Path

import kore

PAGE = (Path(__file__).parent / "page.html").read_text()
PIECE = 65536


def index(req: kore.http_request) -> None:
    """The page with the form."""
    req.response_header("content-type", "text/html; charset=utf-8")
    req.response(200, PAGE)


async def upload(req: kore.http_request) -> None:
    """Take a file and say what it was."""
    req.populate_multi()
    file = req.file_lookup("file")
    if file is None:
        req.response(400, "a form with a file named file, please\n")
        return
    digest, size = hashlib.sha256(), 0
    while True:
        length, data = file.read(PIECE)
        if not length:
            break
        digest.update(data)
        size += length
        await kore.suspend(0)  # a gigabyte takes a while: others get their turn between two pieces
    req.response_header("content-type", "application/json")
    req.response(200, json.dumps({"name": file.filename, "size": size, "sha256": digest.hexdigest()}))
