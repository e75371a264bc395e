"""The same promises on a real PostgreSQL server, where one is named: CODERL_TEST_POSTGRES_URL=postgresql+psycopg://user@host/empty."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text

from coderl_store.clock import SystemClock
from coderl_store.home import StoreSettings
from coderl_store.log import Log
from coderl_store.records import RECORD_TYPES, Survival
from coderl_store.repository import Repository
from coderl_store.schema import require_current
from coderl_store.tables import METADATA

URL = os.environ.get("CODERL_TEST_POSTGRES_URL", "")
pytestmark = pytest.mark.skipif(
    not URL or importlib.util.find_spec("psycopg") is None,
    reason="needs CODERL_TEST_POSTGRES_URL (an empty database) and psycopg (pip install 'coderl[postgres]')",
)


@pytest.fixture
def url() -> Iterator[str]:
    yield URL
    engine = create_engine(URL)
    with engine.begin() as connection:
        METADATA.drop_all(connection)
        connection.execute(text("DROP TABLE IF EXISTS alembic_version"))
    engine.dispose()


def test_schema_rows_and_joins(url: str, make) -> None:
    repository = Repository(url)
    require_current(repository.engine)
    with repository.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    session = make.session()
    records = (session, *make.request(session, "naïve 😀 'quoted'"), make.incident())
    assert repository.append(records) == len(records)
    assert repository.append(records) == 0
    for kind in RECORD_TYPES:
        assert list(repository.stream(kind, batch=1)) == [record for record in records if isinstance(record, kind)]
    (request,) = repository.requests(user_key="user")
    assert (request.context, request.decision, request.suggestion, request.outcome, *request.survival) == records[1:-1]
    assert repository.purge_before(session.at) == 0
    assert repository.erase("user") == 7
    repository.close()


def test_ties_in_time_are_paged_by_id(url: str, make) -> None:
    repository = Repository(url)
    records = [make.survival() for _ in range(6)]
    records = [replace(record, at=records[0].at) for record in records]
    assert repository.append(records) == 6
    assert list(repository.stream(Survival, batch=2)) == records
    repository.close()


def test_migrations_that_start_together(url: str) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            Repository(url).close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_the_log_writes_to_it(url: str, settings: StoreSettings, make) -> None:
    log = Log(replace(settings, database_url=url), clock=SystemClock())
    log.start()
    records = [make.survival() for _ in range(300)]
    log.append(*records, records[0])
    assert log.flush(20)
    log.close(5)
    assert (log.health().committed, log.health().duplicates) == (300, 1)
