"""What SQLite and PostgreSQL do differently: opening, locking, and saying what went wrong.

SQLite runs in WAL mode, so that reading (calibration, replay) never stops the writer, with `synchronous=FULL`: in WAL mode
`NORMAL` does not sync on commit, a power cut may undo the last transactions, and the spool deletes a segment as soon as its
rows are committed. `secure_delete` overwrites what `erase` deletes. PostgreSQL's defaults are right; a server run with
`synchronous_commit=off` is not covered.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, Table, TextClause, create_engine, event, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    SQLAlchemyError,
    StatementError,
)

from .errors import DatabaseError, RecordError, SettingsError

BUSY_TIMEOUT_S = 1.0
"""How long a statement waits for another process' lock before it fails; the log then tries again later."""

PATIENT_TIMEOUT_S = 20.0
"""The same for what a person asked for and waits for: a token, an erasure."""
MIGRATION_TIMEOUT_S = 60.0
"""How long one process waits for another that migrates the same database."""

_PATIENCE_WITH_SERVER = MappingProxyType(
    {"connect_timeout": 5, "keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 15_000}
)
"""Options of libpq, in seconds, the last in milliseconds: a host that fell silent is an error within half a minute;
without them, after many minutes or never. The URL may say otherwise (`?connect_timeout=…`)."""
_LIBPQ_DRIVERS = ("psycopg", "psycopg2")
_WRITING = "coderl_writing"

_SQLITE_SENTENCES = MappingProxyType(
    {
        "SQLITE_BUSY": "is locked by another program",
        "SQLITE_LOCKED": "is locked by another connection",
        "SQLITE_READONLY": "is read-only: check the permissions of the file and its folder",
        "SQLITE_FULL": "has no room left: the disk is full or a size limit is reached",
        "SQLITE_CANTOPEN": "cannot be opened: check that its folder exists and that you may write there",
        "SQLITE_NOTADB": "is not a database: move the file away or name another one",
        "SQLITE_CORRUPT": "is damaged: restore a backup or move the file away",
        "SQLITE_IOERR": "cannot be read or written: the disk reports an error or is full",
        "SQLITE_PERM": "may not be accessed: check the permissions of the file and its folder",
        "SQLITE_AUTH": "may not be accessed: check the permissions of the file and its folder",
    }
)


def open_engine(url: str) -> Engine:
    """An engine for the URL; nothing is connected yet. Raises `SettingsError`."""
    try:
        parsed = make_url(url)
        engine = create_engine(parsed, json_serializer=_json_text, json_deserializer=orjson.loads, **_engine_options(parsed))
    except (ArgumentError, NoSuchModuleError) as error:
        raise SettingsError(
            f"The database URL cannot be understood ({error}): write for example sqlite:////home/me/coderl.db."
        ) from error
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"The database URL needs the Python package {error.name}: pip install 'coderl[postgres]'."
        ) from error
    if engine.dialect.name not in ("sqlite", "postgresql"):
        raise SettingsError(f"The log is kept in sqlite or postgresql, not in {engine.dialect.name}.")
    if engine.dialect.name == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise SettingsError("The database URL names a database in memory, which would forget the log: name a file.")
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def database_file(engine: Engine) -> Path | None:
    """The file of an SQLite database; None for a server, and for SQLite's own `file:` names, which are not paths."""
    name = engine.url.database
    if engine.dialect.name != "sqlite" or not name or name.startswith("file:"):
        return None
    return Path(name)


def identity(engine: Engine) -> tuple[int, int] | None:
    """Device and inode of the database file now; None for a server, and where there is no file."""
    path = database_file(engine)
    try:
        status = None if path is None else path.stat()
    except FileNotFoundError:
        return None
    return None if status is None else (status.st_dev, status.st_ino)


@contextmanager
def read_only(engine: Engine) -> Iterator[Connection]:
    """A connection for reading; the library's errors come out as ours."""
    with _translated(engine), engine.connect() as connection:
        yield connection


@contextmanager
def writing(engine: Engine, wait_s: float = BUSY_TIMEOUT_S) -> Iterator[Connection]:
    """One write transaction, committed at the end. On SQLite it has the write lock from its beginning, for which it waits."""
    with (
        _translated(engine),
        engine.connect().execution_options(**{_WRITING: True}) as connection,
        _waiting(connection, wait_s),
        connection.begin(),
    ):
        yield connection


@contextmanager
def _waiting(connection: Connection, wait_s: float) -> Iterator[None]:
    if connection.dialect.name != "sqlite" or wait_s == BUSY_TIMEOUT_S:
        yield
        return
    driver = connection.connection.cursor()
    driver.execute(f"PRAGMA busy_timeout = {round(wait_s * 1000)}")
    try:
        yield
    finally:
        driver.execute(f"PRAGMA busy_timeout = {round(BUSY_TIMEOUT_S * 1000)}")


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert the rows, which all have the same columns and whose primary key is not there yet; how many."""
    if connection.dialect.name == "postgresql":
        return connection.execute(_recordset(connection, table, tuple(rows[0])), {"rows": _json_text(rows)}).rowcount
    statement = sqlite.insert(table).on_conflict_do_nothing(index_elements=list(table.primary_key))
    return connection.execute(statement, rows, execution_options={"preserve_rowcount": True}).rowcount


def _recordset(connection: Connection, table: Table, names: Sequence[str]) -> TextClause:
    """All rows as one JSON document: a statement and a value for the server instead of one for each row."""
    quote = connection.dialect.identifier_preparer.quote
    name, columns = quote(table.name), ", ".join(map(quote, names))
    source = f"json_populate_recordset(NULL::{name}, CAST(:rows AS json))"
    key = ", ".join(quote(column.name) for column in table.primary_key)
    return text(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {source} ON CONFLICT ({key}) DO NOTHING")


def database_error(error: Exception, url: URL) -> DatabaseError:
    """The sentence for a failure of the database library."""
    name = url.render_as_string(hide_password=True)
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        code = str(getattr(cause, "sqlite_errorname", ""))
        for prefix, sentence in _SQLITE_SENTENCES.items():
            if code.startswith(prefix):
                return DatabaseError(f"The database {name} {sentence}.")
    return DatabaseError(f"The database {name} cannot be used: {_first_line(cause)}.")


def _first_line(error: BaseException | None) -> str:
    """What the library says; its further lines may quote the row, which must not reach a message."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except (DataError, IntegrityError) as error:
        raise RecordError(f"The database refused the content of a row: {_first_line(error.orig)}.") from error
    except DBAPIError as error:
        raise database_error(error, engine.url) from error
    except StatementError as error:  # a value that the driver cannot bind
        raise RecordError(f"The database refused the content of a row: {_first_line(error.orig)}.") from error
    except SQLAlchemyError as error:
        raise database_error(error, engine.url) from error


def _json_text(plain: Any) -> str:
    return orjson.dumps(plain).decode()


def _engine_options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_TIMEOUT_S}}
    if url.get_driver_name() not in _LIBPQ_DRIVERS:
        return {"pool_pre_ping": True}
    patience = {name: value for name, value in _PATIENCE_WITH_SERVER.items() if name not in url.query}
    return {"pool_pre_ping": True, "connect_args": patience}


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    """Set up a fresh connection. Transactions are begun by us (`_begin_sqlite`), not by the driver."""
    connection.isolation_level = None
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        _switch_to_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait for locks here, and two processes that create one database meet at this point."""
    give_up_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_s:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get(_WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def checkpoint(connection: Connection) -> None:
    """Move SQLite's write-ahead log into the database and empty it, as far as other readers allow."""
    try:
        connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise database_error(error, connection.engine.url) from error


def prepare_file(engine: Engine) -> None:
    """Make a missing SQLite file, readable by its owner only, and let its journals have the permissions it has.

    SQLite gives its journals the mode of the database: those made while it was read-only would stay so after the cure.

    A file that is there is never opened: closing it would take away the locks that other connections of this process have on it
    (POSIX locks belong to the process; SQLite, "How To Corrupt An SQLite Database File", §2.2). Another process that leaves
    would then delete the write-ahead log under them, and what they commit from then on would be lost.
    """
    path = database_file(engine)
    if path is None:
        return
    with contextlib.suppress(OSError):  # it is there; SQLite meets any other obstacle too, and says which
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with contextlib.suppress(OSError):
        for journal in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            if journal.exists() and not os.access(journal, os.W_OK):
                journal.chmod(path.stat().st_mode & 0o777)


def sync_folder(engine: Engine) -> None:
    """Make the name of a new SQLite file survive a power cut (SQLite itself syncs the folder for its journals only)."""
    path = database_file(engine)
    if path is None:
        return
    descriptor = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
