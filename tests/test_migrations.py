from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, inspect

from coderl_store.clock import VirtualClock, utc
from coderl_store.dialect import open_engine, writing
from coderl_store.errors import DatabaseError
from coderl_store.ids import IdSource
from coderl_store.records import Context, Origin, Session, Survival, Trigger
from coderl_store.repository import Repository
from coderl_store.schema import HEAD, current_revision, migrate, require_current, upgrade
from coderl_store.tables import METADATA, TABLES, to_row

SCRIPTS = ScriptDirectory(str(Path(__file__).parents[1] / "migrations" / "coderl_migrations"))
REVISIONS = [script.revision for script in reversed(list(SCRIPTS.walk_revisions()))]


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Of an empty database of either kind."""
    opened = open_engine(database_url)
    yield opened
    opened.dispose()


def _at(engine: Engine, revision: str) -> None:
    with writing(engine) as connection:
        upgrade(connection, revision)


def test_the_history_is_one_line_and_ends_at_head() -> None:
    assert SCRIPTS.get_heads() == [HEAD]
    assert len(REVISIONS) >= 2
    assert sorted(REVISIONS) == REVISIONS  # `require_current` tells newer from older by comparing them
    for script in SCRIPTS.walk_revisions():
        assert Path(script.path).name.startswith(f"{script.revision}_")


def test_an_empty_database_gets_exactly_the_schema_of_the_model(engine: Engine) -> None:
    assert current_revision(engine) is None
    migrate(engine)
    assert current_revision(engine) == HEAD
    require_current(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_the_comparison_would_notice(engine: Engine) -> None:
    migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX ix_decisions_at_id")
        connection.exec_driver_sql("ALTER TABLE survivals ADD COLUMN surplus INTEGER")
    with engine.connect() as connection:
        found = {difference[0] for difference in compare_metadata(MigrationContext.configure(connection), METADATA)}
    assert found == {"add_index", "remove_column"}


@pytest.mark.parametrize("revision", REVISIONS)
def test_rows_survive_the_upgrade_from_every_revision(engine: Engine, revision: str) -> None:
    _at(engine, revision)
    assert current_revision(engine) == revision
    clock = VirtualClock()
    ids = IdSource(clock)
    session = Session(ids.new(), utc(clock.now_s()), Origin.EDITOR, "user", seed=2**62)
    survival = Survival(ids.new(), utc(clock.now_s()), session.id, "g", 15.0, 0.1)
    context = Context(ids.new(), utc(clock.now_s()), session.id, "python", "key", 3, 4, Trigger.AUTOMATIC)
    for record in (session, survival, context):
        _insert_as_of_then(engine, TABLES[type(record)].name, to_row(record))
    migrate(engine)
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    repository = Repository(engine.url.render_as_string(hide_password=False))
    assert list(repository.stream(Session)) == [session]
    assert list(repository.stream(Survival)) == [survival]
    assert list(repository.stream(Context)) == [context]  # what it did not know is None
    repository.close()


def _insert_as_of_then(engine: Engine, name: str, row: dict[str, object]) -> None:
    """Insert with the columns that the old schema has."""
    then = MetaData()
    then.reflect(engine, only=[name])
    with writing(engine) as connection:
        columns = {column.name for column in then.tables[name].columns}
        connection.execute(then.tables[name].insert(), {key: value for key, value in row.items() if key in columns})


def test_a_failed_upgrade_changes_nothing(engine: Engine) -> None:
    _at(engine, "0001")
    with engine.begin() as connection:  # the last index of 0002 is there already, under the same name
        connection.exec_driver_sql("CREATE INDEX ix_incidents_session_id ON incidents (code)")
    with pytest.raises(DatabaseError, match="already exists"):
        migrate(engine)
    assert current_revision(engine) == "0001"
    assert inspect(engine).get_indexes("decisions") == []


def test_an_old_and_a_newer_database_are_refused_with_a_cure(engine: Engine) -> None:
    _at(engine, "0001")
    with pytest.raises(DatabaseError, match=f"is at revision 0001, not {HEAD}: start the server once"):
        require_current(engine)
    migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for refuse in (require_current, migrate):
        with pytest.raises(DatabaseError, match=r"revision 9999.*update CodeRL"):
            refuse(engine)


def test_it_prints_nothing_and_leaves_logging_alone(engine: Engine, capfd: pytest.CaptureFixture[str]) -> None:
    before = (list(logging.root.handlers), logging.root.level)
    migrate(engine)
    assert (list(logging.root.handlers), logging.root.level) == before
    assert not logging.getLogger("coderl_store").disabled  # what `logging.config.fileConfig` does to others
    assert capfd.readouterr() == ("", "")


def test_it_works_from_any_directory_and_for_processes_that_start_together(tmp_path: Path, database_url: str) -> None:
    code = "import sys; from coderl_store.repository import Repository; sys.stdin.read(1); Repository(sys.argv[1]).close()"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, database_url],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"g")
        child.stdin.flush()
    assert [(*child.communicate(), child.returncode) for child in children] == [(b"", b"", 0)] * 3
    engine = open_engine(database_url)
    require_current(engine)
    engine.dispose()
