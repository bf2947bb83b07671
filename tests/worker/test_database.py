"""PostgreSQL: a real server, killed and restarted, and what queries give and leave behind."""

from __future__ import annotations

import gc
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

import gevent
import pytest
from coroutines import Complete
from gevent.event import Event
from gevent.server import StreamServer
from postgres import kill, postgres

from gkore import api as kore
from gkore.conf.application import current
from gkore.worker import database, tasks


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with postgres() as running:
        yield running


@pytest.fixture
def db(server: Any) -> Iterator[str]:
    """A name nobody used before; at the end every connection of the pool is idle or gone, and closed."""
    name = f"db{len(database._databases)}"
    assert kore.dbsetup(name, server.get_uri())
    yield name
    pool = database._databases[name]
    until(lambda: pool._open == len(pool._idle))
    assert not pool._line
    for link in list(pool._idle):
        pool._idle.remove(link)
        pool._drop(link)


def until(condition: Any) -> None:
    end = monotonic() + 20
    while not condition():
        assert monotonic() < end
        gevent.sleep(0.005)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets settings for the time of a test."""
    return lambda name, value: monkeypatch.setitem(current().settings._values, name, value)


def ask(complete: Complete, db: str, sql: str, **options: Any) -> Any:
    async def main() -> Any:
        return await kore.dbquery(db, sql, **options)

    return complete(main())


def test_rows_are_text_as_postgresql_writes_it(complete: Complete, db: str) -> None:
    sql = """select 1 as int, true as yes, false as no, null as nothing, 'text' as text, 1.50::numeric as numeric,
             '{1,2}'::int[] as array, '\\x0aff'::bytea as bytes, '{"a": 1}'::json as json, date '2020-02-03' as date"""
    assert ask(complete, db, sql) == [
        {
            "int": "1",
            "yes": "t",
            "no": "f",
            "nothing": "",
            "text": "text",
            "numeric": "1.50",
            "array": "{1,2}",
            "bytes": "\\x0aff",
            "json": '{"a": 1}',
            "date": "2020-02-03",
        }
    ]


def test_no_rows_and_no_columns(complete: Complete, db: str) -> None:
    assert ask(complete, db, "select 1 where false") == []
    assert ask(complete, db, "create table if not exists nothing (a int)") is None
    assert ask(complete, db, "insert into nothing values (1)") is None
    assert ask(complete, db, "select 1 as a, 2 as a") == [{"a": "2"}]


def test_null_may_be_none(complete: Complete, db: str, settings: Any) -> None:
    settings("pgsql_null", "none")
    assert ask(complete, db, "select null as a, '' as b") == [{"a": None, "b": ""}]


NASTY = [
    "",
    "it's",
    "back\\slash",
    '"',
    "$1",
    "%s %(x)s",
    "--",
    "/*",
    "é€😀",
    "\n\r\t",
    "'; drop table x; --",
    "\\'",
    "a" * 9999,
]


@pytest.mark.parametrize("value", NASTY)
def test_parameters_come_back_as_they_were(complete: Complete, db: str, value: str) -> None:
    sql = "select $1 as a, $2::text as b, '$1' as c, $$ $2 $$ as d, $1 || /* $3 */ $2 as e -- $4"
    (row,) = ask(complete, db, sql, params=[value, value])
    assert row == {"a": value, "b": value, "c": "$1", "d": " $2 ", "e": value * 2}


def test_parameters_have_the_type_that_is_asked_for(complete: Complete, db: str) -> None:
    sql = "select 3 - $1 as a, $2::int[] as b, 5 = any($2) as c, $3 as d limit $4"
    (row,) = ask(complete, db, sql, params=["-4", "{5,6}", None, "1"])
    assert row == {"a": "7", "b": "{5,6}", "c": "t", "d": ""}


def test_bytes(complete: Complete, db: str) -> None:
    data = bytes(range(256))
    assert ask(complete, db, "select $1 as a, 7 as b", params=[data], binary=True) == [{"a": data, "b": "7"}]
    assert ask(complete, db, "select $1 as a", params=[data]) == [{"a": "\\x" + data.hex()}]
    assert ask(complete, db, "select null::bytea as a", binary=True) == [{"a": ""}]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"params": ("x",)}, "pgsql: params keyword must be a list"),
        ({"params": ["x", 5]}, "pgsql: item 1 is not a string or bytes"),
        ({"binary": 1}, "pgsql: binary not True or False"),
        ({"params": ["x"]}, "failed to perform query: 1 parameters were given"),
        ({"params": ["nul\0"], "sql": "select $1"}, "failed to perform query: "),
        ({"sql": "select $1"}, r"failed to perform query: there is no parameter \$1"),
        ({"sql": "selekt"}, 'failed to perform query: syntax error at or near "selekt"'),
        ({"sql": ""}, "failed to perform query: "),
        ({"sql": "copy nothing from stdin"}, "pgsql error: COPY"),
        ({"sql": "select 1; copy (select 1) to stdout"}, "pgsql error: COPY"),
    ],
)
def test_what_goes_wrong_is_a_runtime_error(complete: Complete, db: str, options: dict[str, Any], text: str) -> None:
    sql = options.pop("sql", "select 1")
    with pytest.raises(RuntimeError, match=text):
        ask(complete, db, sql, **options)
    assert ask(complete, db, "select 1 as a") == [{"a": "1"}]


def test_a_name_that_nobody_set_up(complete: Complete) -> None:
    with pytest.raises(RuntimeError, match="pgsql error: no database found"):
        ask(complete, "nobody", "select 1")


def test_the_first_meaning_of_a_name_stays(complete: Complete, db: str) -> None:
    kore.register_database(db, "host=/nowhere")
    assert ask(complete, db, "select 1 as a") == [{"a": "1"}]


@pytest.mark.parametrize("dsn", ["host=/nowhere", "host=127.0.0.1 port=1", "what is this", "host=no.such.invalid"])
def test_a_server_that_is_not_there(complete: Complete, dsn: str) -> None:
    name = f"db{len(database._databases)}"
    kore.dbsetup(name, dsn)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="pgsql error: "):
            ask(complete, name, "select 1")
    assert database._databases[name]._open == 0


def test_a_server_that_says_nothing(complete: Complete, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkore.worker.postgres.CONNECT_TIME", 0.05)
    with gevent.socket.create_server(("127.0.0.1", 0)) as silent:
        name = f"db{len(database._databases)}"
        kore.dbsetup(name, f"host=localhost port={silent.getsockname()[1]}")
        with pytest.raises(RuntimeError, match="pgsql error: the server did not answer in time"):
            ask(complete, name, "select 1")
    assert database._databases[name]._open == 0


async def query(db: str, sql: str, **options: Any) -> Any:
    return await kore.dbquery(db, sql, **options)


def test_the_pool_has_a_bound_and_the_line_another(complete: Complete, db: str, settings: Any) -> None:
    settings("pgsql_conn_max", 2)
    settings("pgsql_queue_limit", 3)

    async def main() -> Any:
        return await kore.gather(*(query(db, "select pg_backend_pid() as pid, pg_sleep(0.02)") for _ in range(6)))

    results = complete(main())
    failures = [str(result) for result in results if isinstance(result, Exception)]
    assert failures == ["pgsql error: no available connection: 3 queries wait for one of 2 already (pgsql_queue_limit)"]
    assert len({result[0]["pid"] for result in results if isinstance(result, list)}) == 2
    assert database._databases[db]._open == 2


def test_without_a_bound(complete: Complete, db: str, settings: Any) -> None:
    settings("pgsql_conn_max", 0)

    async def main() -> Any:
        return await kore.gather(*(query(db, "select pg_backend_pid() as pid, pg_sleep(0.05)") for _ in range(6)))

    assert len({result[0]["pid"] for result in complete(main())}) == 6


def running(complete: Complete, db: str, mark: str) -> int:
    sql = "select count(*) n from pg_stat_activity where query like $1 and state = 'active' and pid <> pg_backend_pid()"
    return int(ask(complete, db, sql, params=[f"%{mark}%"])[0]["n"])


def test_a_killed_task_has_its_query_cancelled_and_its_connection_comes_back(
    complete: Complete, db: str, settings: Any
) -> None:
    settings("pgsql_conn_max", 1)
    (pid,) = ask(complete, db, "select pg_backend_pid() as pid")

    async def main() -> Any:
        ident = kore.task_create(query(db, "begin; select pg_sleep(600), 'killed'"))
        await kore.suspend(20)
        assert kore.task_kill(ident)
        return await query(db, "select pg_backend_pid() as pid, now() = statement_timestamp() as outside")

    assert complete(main()) == [{**pid, "outside": "t"}], "the same connection, outside of the open transaction"
    assert running(complete, db, "'killed'") == 0


def test_a_late_query_is_cancelled(complete: Complete, db: str) -> None:
    with pytest.raises(TimeoutError, match="timeout before operation completed"):
        ask(complete, db, "select pg_sleep(600), 'late'", timeout=20)
    until(lambda: running(complete, db, "'late'") == 0)


CANCEL = bytes.fromhex("04d2162e")
"""The code of a CancelRequest."""


def test_a_cancellation_that_is_lost_is_told_again(complete: Complete, server: Any) -> None:
    told = []
    frozen = Event()

    def pass_on(client: Any, _: Any) -> None:
        first = client.recv(65536)
        if first[4:8] == CANCEL:
            told.append(first)
            if len(told) == 1:
                return  # as when it overtakes its query: PostgreSQL passes over it
            if len(told) == 2:
                frozen.wait()  # as a server that does not answer any more: nobody else stands still
                return
        with socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(str(server.pgdata / ".s.PGSQL.5432"))
            upstream.sendall(first)
            ways = [gevent.spawn(copy, upstream, client), gevent.spawn(copy, client, upstream)]
            gevent.joinall(ways, count=1)
            gevent.killall(ways)

    def copy(source: Any, target: Any) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)

    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/.s.PGSQL.5432")
        listener.listen()
        listener.setblocking(False)
        proxy = StreamServer(listener, pass_on)
        proxy.start()
        name = f"db{len(database._databases)}"
        assert kore.dbsetup(name, f"postgresql://postgres:@/postgres?host={directory}")
        with pytest.raises(TimeoutError):
            ask(complete, name, "select pg_sleep(600), 'lost'", timeout=20)
        until(lambda: running(complete, name, "'lost'") == 0)
        assert len(told) == 3
        frozen.set()
        proxy.stop()


def test_killed_and_late_waiters_leave_the_line(complete: Complete, db: str, settings: Any) -> None:
    settings("pgsql_conn_max", 1)

    async def main() -> Any:
        slow = kore.task_create(query(db, "select pg_sleep(600)"))
        await kore.suspend(20)
        waiting = kore.task_create(query(db, "select 1"))
        (late,) = await kore.gather(query(db, "select 1", timeout=5))
        assert isinstance(late, TimeoutError)
        assert len(database._databases[db]._line) == 1
        assert kore.task_kill(waiting)
        assert len(database._databases[db]._line) == 0
        assert kore.task_kill(slow)
        return await query(db, "select 1 as a")

    assert complete(main()) == [{"a": "1"}]


def test_a_failed_transaction_is_rolled_back_before_the_next_query(complete: Complete, db: str, settings: Any) -> None:
    settings("pgsql_conn_max", 1)
    ask(complete, db, "begin")
    with pytest.raises(RuntimeError, match="division by zero"):
        ask(complete, db, "select 1/0")
    assert ask(complete, db, "select 1 as a") == [{"a": "1"}]


def test_a_backend_that_ends_costs_its_own_query_only(complete: Complete, db: str, settings: Any) -> None:
    settings("pgsql_conn_max", 2)

    async def main() -> Any:
        slow = query(db, "select pg_sleep(600), 'victim'")

        async def kill() -> None:
            end = "select pg_terminate_backend(pid) from pg_stat_activity where query like '%''victim''' "
            while not await query(db, end):  # until it is listed
                pass

        return await kore.gather(slow, kill())

    failure, _ = complete(main())
    assert "terminating connection due to administrator command" in str(failure)
    assert ask(complete, db, "select 1 as a") == [{"a": "1"}]


def test_idle_connections_that_end_are_replaced(complete: Complete, db: str, server: Any) -> None:
    ask(complete, db, "select 1")
    pool = database._databases[db]
    other = f"{db}-other"
    kore.dbsetup(other, server.get_uri())
    ask(
        complete,
        other,
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = $1",
        params=["client backend"],
    )
    until(lambda: pool._open == 0)
    assert ask(complete, db, "select 1 as a") == [{"a": "1"}]


def test_a_server_killed_under_load_costs_the_queries_in_flight(complete: Complete) -> None:
    outcomes: list[Any] = []
    stop: list[bool] = []
    good = [{"a": "1"}]

    async def client(name: str) -> None:
        while not stop:
            (outcome,) = await kore.gather(query(name, "select 1 as a"))
            outcomes.append(outcome)
            if isinstance(outcome, Exception):
                await kore.suspend(5)

    with postgres() as victim:
        name = f"db{len(database._databases)}"
        kore.dbsetup(name, victim.get_uri())
        for _ in range(4):
            tasks.create(client(name))
        until(lambda: len(outcomes) > 50)
        assert all(outcome == good for outcome in outcomes)
        kill(victim)
        until(lambda: isinstance(outcomes[-1], RuntimeError))
        outcomes.clear()
        victim.start()
        until(lambda: good in outcomes)
        healed = outcomes.index(good)
        until(lambda: len(outcomes) > healed + 100)
        stop.append(True)
        failed = [outcome for outcome in outcomes[healed:] if outcome != good]
        assert len(failed) < 4, "each client may have met the start only once"
        pool = database._databases[name]
        until(lambda: pool._open == len(pool._idle))


def test_notifications(complete: Complete, db: str) -> None:
    async def listen(count: int) -> list[str]:
        got: list[str] = []
        async for payload in kore.dblisten(db, 'a "channel"'):
            got.append(payload)
            if len(got) == count:
                break
        return got

    async def notify() -> None:
        while True:
            # not while it is still being done: who notifies before its end is not heard
            listens = "query like 'LISTEN%' and state = 'idle'"
            found = await query(db, f"select count(*) as n from pg_stat_activity where {listens}")
            if found[0]["n"] == "1":
                break
        for number in range(3):
            await query(db, "select pg_notify($1, $2)", params=['a "channel"', str(number)])

    async def main() -> Any:
        return await kore.gather(listen(3), notify())

    assert complete(main()) == [["0", "1", "2"], None]
    gc.collect()
    until(lambda: ask(complete, db, "select from pg_stat_activity where query like 'LISTEN%'") == [])


def test_a_listener_whose_connection_ends_says_so_and_can_go_on(complete: Complete, db: str) -> None:
    end = "select pg_terminate_backend(pid) from pg_stat_activity where query like 'LISTEN%'"

    async def main() -> Any:
        listener = kore.dblisten(db, "channel")

        async def next_one() -> Any:
            return await listener.__anext__()

        async def terminate() -> None:
            while not await query(db, end):
                pass

        failure, _ = await kore.gather(next_one(), terminate())
        assert "pgsql error: " in str(failure)

        heard: list[Any] = []

        async def hear() -> None:
            heard.append(await next_one())

        async def notify() -> None:
            # Again until it is heard: the backend that was ended is listed for a while beside the new one.
            while not heard:
                await query(db, "notify channel, 'again'")
                await kore.suspend(5)

        await kore.gather(hear(), notify())
        listener.close()
        return heard[0]

    assert complete(main()) == "again"


def test_nothing_stays_of_queries_that_were_ended(complete: Complete, db: str, settings: Any) -> None:
    settings("pgsql_conn_max", 2)

    async def main() -> None:
        idents = [kore.task_create(query(db, "select pg_sleep(600)")) for _ in range(20)]
        await kore.suspend(20)
        for ident in idents:
            assert kore.task_kill(ident)

    def descriptors() -> int:
        pool = database._databases[db]
        until(lambda: pool._open == len(pool._idle))
        gc.collect()
        return len(os.listdir("/proc/self/fd")) - pool._open  # who is ended early has opened fewer connections

    complete(main())
    before = descriptors()
    complete(main())
    assert descriptors() <= before
