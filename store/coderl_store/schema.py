"""The schema's revision, and bringing a database up to it.

Migrations live in the package `coderl_migrations` (alembic, append-only) and are found where it is installed, whatever the
working directory. An upgrade is one transaction, also on SQLite, and several processes may ask for it at once: on SQLite the
first to get the write lock (`BEGIN IMMEDIATE`) upgrades and the others find the work done, on PostgreSQL an advisory lock
does the same.

Not promised: downgrades. A log is append-only; going back is restoring a backup.
"""

from __future__ import annotations

import io
from importlib.resources import as_file, files

from sqlalchemy import Connection, Engine, text

from .dialect import MIGRATION_TIMEOUT_S, read_only, writing
from .errors import DatabaseError, LogOutdated

HEAD = "0012"
"""The revision this version of the code works with. Kept here so that an up-to-date database is opened without alembic."""

_ADVISORY_LOCK = 0x0C0DE41
"""Any number, as long as nobody else uses it in the same PostgreSQL database."""


def current_revision(engine: Engine) -> str | None:
    """The revision of the database; None where it holds no log yet. Raises `DatabaseError`."""
    with read_only(engine) as connection:
        return _revision(connection)


def migrate(engine: Engine) -> None:
    """Bring the database to `HEAD`, or leave it where it is there already. After a `DatabaseError` nothing has changed."""
    revision = current_revision(engine)
    if revision == HEAD:
        return
    _refuse_newer(revision, engine)
    with writing(engine, MIGRATION_TIMEOUT_S) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        if _revision(connection) != HEAD:
            upgrade(connection, HEAD)


def require_current(engine: Engine) -> None:
    """Raise `DatabaseError` unless the database is at `HEAD` (`LogOutdated` where it is older): the message says what to do."""
    revision = current_revision(engine)
    _refuse_newer(revision, engine)
    if revision != HEAD:
        raise LogOutdated(
            f"The database {engine.url!r} is at revision {revision or 'none'}, not {HEAD}: start the server once, it migrates."
        )


def upgrade(connection: Connection, revision: str) -> None:
    """Run the migrations up to `revision` in the connection's transaction. For `migrate`, and for tests of old revisions."""
    from alembic import command
    from alembic.config import Config

    with as_file(files("coderl_migrations")) as location:
        config = Config(stdout=io.StringIO(), attributes={"connection": connection})
        config.set_main_option("script_location", str(location).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, revision)


def _revision(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if revision is None else str(revision)


def _refuse_newer(revision: str | None, engine: Engine) -> None:
    if revision is not None and revision > HEAD:
        raise DatabaseError(
            f"The database {engine.url!r} is at revision {revision}, which this version of CodeRL does not know: update CodeRL."
        )
