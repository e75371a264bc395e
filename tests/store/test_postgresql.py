"""What happens to a PostgreSQL server and between its clients: starts at one moment, cut connections, an outage, a deadlock.

The promises that both databases keep are tested on both, where they are: `test_repository.py` and the other users of
`database_url`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event
from tests.postgres import PostgresServer

from coderl_store.clock import SystemClock
from coderl_store.dialect import open_engine, writing
from coderl_store.errors import DatabaseError
from coderl_store.home import StoreSettings
from coderl_store.log import Log
from coderl_store.records import Record, Survival
from coderl_store.repository import Repository
from coderl_store.schema import require_current, upgrade

LONG_S = 120.0
"""Nothing takes so long; the machine may be busy."""


@pytest.fixture
def url(postgres_server: PostgresServer, postgres_database: str) -> str:
    return postgres_server.url(postgres_database)


@pytest.fixture
def repository(url: str) -> Iterator[Repository]:
    opened = Repository(url)
    yield opened
    opened.close()


@pytest.fixture
def incidents() -> list[str]:
    """The codes that the log told."""
    return []


@pytest.fixture
def log(url: str, settings: StoreSettings, incidents: list[str]) -> Iterator[Log]:
    opened = Log(
        replace(settings, database_url=url), clock=SystemClock(), on_incident=lambda code, sentence: incidents.append(code)
    )
    opened.start()
    yield opened
    opened.close(20)


def in_threads(*work: Callable[[], object]) -> list[Exception]:
    """Do all of it at once; what went wrong."""
    failures: list[Exception] = []
    together = threading.Barrier(len(work))

    def run(one: Callable[[], object]) -> None:
        together.wait(LONG_S)
        try:
            one()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def eventually(condition: Callable[[], object]) -> None:
    give_up_s = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < give_up_s, "it did not happen"
        time.sleep(0.01)


@pytest.mark.parametrize("revision", [None, "0003"])
def test_servers_that_migrate_at_once(url: str, revision: str | None) -> None:
    """From nothing, and from an old version."""
    engine = open_engine(url)
    if revision is not None:
        with writing(engine) as connection:
            upgrade(connection, revision)
    assert in_threads(*[lambda: Repository(url).close()] * 4) == []
    require_current(engine)
    engine.dispose()


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_pages_do_not_stumble_over_the_hour_that_comes_twice(url: str, make, batch: int) -> None:
    """The session's time zone is the server's affair: in Berlin 2026-10-25 02:30 is 00:30 and 01:30 UTC."""
    start = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)
    session = replace(make.session(), at=start)
    made = [replace(make.survival(), at=start + timedelta(minutes=20 * index)) for index in range(9)]
    requests = [[replace(record, at=one.at) for record in make.request(session)[:2]] for one in made]
    repository = Repository(url + "&options=-c%20timezone%3DEurope/Berlin")
    repository.append([session, *made, *(record for request in requests for record in request)])
    assert list(repository.stream(Survival, batch=batch)) == made
    assert list(repository.stream(Survival, batch=batch, since=made[3].at, until=made[6].at)) == made[3:6]
    decided = [one.decision_id for one in repository.columns(batch=batch)]
    assert [name for page in decided for name in page] == [request[1].id for request in requests]
    repository.close()


def test_a_connection_that_was_cut_while_idle_is_not_noticed(
    repository: Repository, postgres_server: PostgresServer, postgres_database: str, make
) -> None:
    assert repository.append([make.survival()]) == 1
    assert postgres_server.cut(postgres_database) == 1
    assert repository.append([make.survival()]) == 1
    assert repository.count(Survival) == 2


def test_a_transaction_that_is_cut_leaves_nothing_and_can_be_done_again(
    repository: Repository, postgres_server: PostgresServer, postgres_database: str, make
) -> None:
    session = make.session()
    records = [session, *make.request(session)]
    cuts = [1]

    def cut(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT") and cuts:
            cuts.pop()
            postgres_server.cut(postgres_database)

    event.listen(repository.engine, "after_cursor_execute", cut)
    with pytest.raises(DatabaseError, match="cannot be used: "):
        repository.append(records)
    assert cuts == []
    assert [repository.count(type(record)) for record in records] == [0] * len(records)
    assert repository.append(records) == len(records)


def test_two_writers_of_the_same_records_do_not_wait_for_each_other(url: str, make) -> None:
    """As when a client whose answer was lost sends a batch again, to another worker. Each stops after its first table until the
    other has one too, which must not come about."""
    records: list[Record] = [make.incident(), make.survival(), make.session()]
    both_have_one = threading.Barrier(2)

    def append(order: list[Record]) -> None:
        repository = Repository(url)
        first = [1]

        def meet(connection: object, cursor: object, statement: str, *_: object) -> None:
            if statement.startswith("INSERT") and first:
                first.pop()
                with contextlib.suppress(threading.BrokenBarrierError):
                    both_have_one.wait(1.0)

        event.listen(repository.engine, "after_cursor_execute", meet)
        try:
            repository.append(order)
        finally:
            repository.close()

    Repository(url).close()
    assert in_threads(lambda: append(records), lambda: append(records[::-1])) == []
    repository = Repository(url)
    assert [repository.count(type(record)) for record in records] == [1, 1, 1]
    repository.close()


def test_connections_cut_all_the_time_lose_and_double_nothing(
    log: Log, repository: Repository, postgres_server: PostgresServer, postgres_database: str, make
) -> None:
    records = [make.survival() for _ in range(200)]
    for index, record in enumerate(records):
        log.append(record)
        if index % 20 == 0:
            time.sleep(0.12)  # the log gathers for a tenth of a second: what it does then is cut
            postgres_server.cut(postgres_database)
    assert log.flush(LONG_S)
    assert log.health().last_error is None
    assert list(repository.stream(Survival)) == records


def test_a_server_that_is_stopped_for_some_seconds(
    log: Log, repository: Repository, postgres_server: PostgresServer, incidents: list[str], make
) -> None:
    records = [make.survival() for _ in range(130)]
    log.append(*records[:30])
    assert log.flush(LONG_S)
    postgres_server.stop()
    for record in records[30:]:
        log.append(record, records[0])  # it returns: the record is safe
        time.sleep(0.03)
    eventually(lambda: "cannot be used: " in (log.health().last_error or ""))
    assert log.health().pending == 200
    postgres_server.start()
    assert log.flush(LONG_S)
    assert list(repository.stream(Survival)) == records
    health = log.health()
    assert (health.committed, health.duplicates, health.damaged, health.pending, health.last_error) == (130, 100, 0, 0, None)
    assert incidents == ["database_failed", "database_recovered"]


def test_what_was_taken_while_the_server_was_away_is_stored_by_the_next_process(
    url: str, settings: StoreSettings, postgres_server: PostgresServer, make
) -> None:
    postgres_server.stop()
    records = [make.survival() for _ in range(20)]
    first = Log(replace(settings, database_url=url), clock=SystemClock())
    first.start()
    first.append(*records)
    first.close(0.5)
    postgres_server.start()
    second = Log(replace(settings, database_url=url), clock=SystemClock())
    second.start()
    eventually(lambda: second.health().committed + second.health().duplicates == 20)
    second.close(20)
    repository = Repository(url)
    assert list(repository.stream(Survival)) == records
    repository.close()


def test_a_host_that_says_nothing_is_an_error_and_not_an_endless_wait(postgres_server: PostgresServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DatabaseError, match="timeout"):
        Repository(f"postgresql+psycopg://me@127.0.0.1:{silent.getsockname()[1]}/log")
