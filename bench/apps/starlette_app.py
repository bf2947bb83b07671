"""Starlette's application: the same validation as in kore.conf."""

import re

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

NUMBER, NAME, TEXT = (re.compile(pattern) for pattern in ("^[0-9]+$", "^[A-Za-z ]+$", "^[A-Za-z .]+$"))


def validated(values, rules):
    found = {}
    for name, rule in rules.items():
        value = values.get(name)
        found[name] = value if value is not None and rule.search(value) else None
    return found


async def params(request: Request):
    found = validated(request.query_params, {"id": NUMBER, "name": NAME, "page": NUMBER})
    return PlainTextResponse(f"{found['id']} {found['name']} {found['page']}")


async def form(request: Request):
    found = validated(await request.form(), {"id": NUMBER, "name": NAME, "text": TEXT})
    return PlainTextResponse(f"{found['id']} {found['name']} {len(found['text'])}")


async def upload(request: Request):
    size = 0
    async with request.form() as fields:
        while piece := await fields["file"].read(1024):
            size += len(piece)
    return PlainTextResponse(str(size))


app = Starlette(
    routes=[
        Route("/params", params),
        Route("/form", form, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
    ]
)
