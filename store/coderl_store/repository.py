"""The database as the rest of the house sees it: append, stream, join, erase.

Everything read comes in time order and page by page (keyset paging on (at, id)), so memory stays constant however long the
log is. A page is one short transaction: rows that arrive during a read, with a time the reader has passed already, are not
seen by it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Engine, RowMapping, Select, Table, delete, exists, func, select, tuple_

from .codec import from_plain
from .columns import Page, RequestColumns, pages_of, read_page
from .dialect import (
    PATIENT_TIMEOUT_S,
    checkpoint,
    database_file,
    identity,
    insert_new,
    open_engine,
    prepare_file,
    read_only,
    sync_folder,
    writing,
)
from .errors import DatabaseError, LogMissing
from .records import RECORD_TYPES, Context, Decision, Origin, Outcome, Record, Session, Suggestion, Survival
from .schema import migrate, require_current
from .shadow import Shadow
from .tables import DAILY, FIGURES, SESSIONS, TABLES, VERSIONS, from_row, to_row
from .versions import GeneratorVersion

R = TypeVar("R", bound=Record)
C = TypeVar("C", Context, Suggestion, Outcome, Shadow)

EDITOR_ONLY: tuple[Origin, ...] = (Origin.EDITOR,)
_CHILDREN = tuple(kind for kind in RECORD_TYPES if kind is not Session)
_ORDER = (*_CHILDREN, Session)
"""In this order every transaction writes the tables, each by id: those that meet wait in one direction only. (Otherwise two
wait for each other, until PostgreSQL ends one after a second.)"""


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """All that the log knows of one request of an editor."""

    session: Session
    context: Context
    decision: Decision
    suggestion: Suggestion | None
    """None where nothing was generated, or where it has not arrived yet."""
    outcome: Outcome | None
    """None where nothing was shown, or where the outcome has not arrived yet."""
    survival: tuple[Survival, ...]
    """By `after_s`; empty where nothing was kept or measured."""
    shadow: Shadow | None = None
    """What was typed there next; None where the suggestion was taken, or was not followed."""


class Repository:
    """One database. The constructor opens it, creating and migrating it where needed.

    `create` False: for readers; an SQLite file that is not there is a `LogMissing` and is not made. `touch` False: for
    those who only look; such a file is not made either, and an older schema is a `LogOutdated` instead of being migrated.

    Safe to use from several threads. Raises `SettingsError` for a URL that cannot work, `DatabaseError` for a database that
    cannot be reached, written or migrated now (the same call may succeed later), `RecordError` for content that it refuses.
    """

    def __init__(self, url: str, *, create: bool = True, touch: bool = True) -> None:
        self._engine = open_engine(url)
        file = database_file(self._engine)
        if not (create and touch) and file is not None and not file.exists():
            raise LogMissing(f"There is no log at {file}: name the database of a server that has run.")
        try:
            if touch:
                prepare_file(self._engine)
                migrate(self._engine)
                self._sync_folder()
            else:
                require_current(self._engine)
            self._identity = identity(self._engine)
        except BaseException:
            self._engine.dispose()
            raise

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine, for what this class does not do."""
        return self._engine

    def close(self) -> None:
        """Give the connections back. A later call opens new ones."""
        self._engine.dispose()

    def append(self, records: Iterable[Record]) -> int:
        """Commit the records, all or none; how many were new. A record whose id is there already is ignored."""
        rows: dict[type[Record], list[dict[str, Any]]] = {}
        for record in records:
            rows.setdefault(type(record), []).append(to_row(record))
        with writing(self._engine) as connection:
            new = 0
            for kind in sorted(rows, key=_ORDER.index):
                new += insert_new(connection, TABLES[kind], sorted(rows[kind], key=itemgetter("id")))
        self._require_same_file()
        return new

    def stream(
        self,
        record_type: type[R],
        *,
        origins: Collection[Origin] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        session_ids: Collection[str] | None = None,
        user_key: str | None = None,
        batch: int = 1000,
    ) -> Iterator[R]:
        """The records of one type with `since` ≤ at < `until`, by (at, id).

        `origins` and `user_key` None mean all; so does `session_ids` for sessions (at most about 30,000: they travel as
        parameters).
        """
        table = TABLES[record_type]
        query = _between(select(table), table, since, until)
        if session_ids is not None:
            session_id = table.c.id if table is SESSIONS else table.c.session_id
            query = query.where(session_id.in_(list(session_ids)))
        if origins is not None or user_key is not None:
            query = query.where(_of_session(table, tuple(Origin) if origins is None else origins, user_key))
        for page in self._pages(query, table, batch):
            for row in page:
                yield from_row(record_type, dict(row))

    def requests(
        self,
        *,
        origins: Collection[Origin] = EDITOR_ONLY,
        since: datetime | None = None,
        until: datetime | None = None,
        user_key: str | None = None,
        batch: int = 500,
    ) -> Iterator[LoggedRequest]:
        """The requests decided in `since` ≤ at < `until`, in the order of their decisions: what calibration and replay read.

        A decision whose context or session is not in the database (lost with a damaged line, or purged) is left out. Where a
        decision has several suggestions, outcomes or shadows, the first by (at, id) counts: of several candidates (`rank`) the
        server writes the one it decided on first, and it never writes several of the others. Rows of another session count
        for none: nobody adds to what is not theirs.
        """
        table = TABLES[Decision]
        query = select(table).where(_of_session(table, origins, user_key))
        for page in self._pages(_between(query, table, since, until), table, batch):
            yield from self._complete([from_row(Decision, dict(row)) for row in page])

    def pages(
        self,
        *,
        origins: Collection[Origin] = EDITOR_ONLY,
        since: datetime | None = None,
        until: datetime | None = None,
        batch: int = 20_000,
    ) -> tuple[Page, ...]:
        """What `requests` reads, in parts that can be read alone (`page`), also by another process."""
        return pages_of(self._engine, origins=origins, since=since, until=until, batch=batch)

    def page(self, page: Page) -> RequestColumns:
        """The requests of one page as columns, about ten times as fast as `requests` (`coderl_store.columns`)."""
        return read_page(self._engine, page)

    def columns(
        self,
        *,
        origins: Collection[Origin] = EDITOR_ONLY,
        since: datetime | None = None,
        until: datetime | None = None,
        batch: int = 20_000,
    ) -> Iterator[RequestColumns]:
        """All pages of a part of the log, one after the other."""
        yield from map(self.page, self.pages(origins=origins, since=since, until=until, batch=batch))

    def owners(self, session_ids: Collection[str]) -> dict[str, str]:
        """Session id → user key, of those that are here. At most about 30,000: they travel as parameters."""
        query = select(SESSIONS.c.id, SESSIONS.c.user_key).where(SESSIONS.c.id.in_(list(session_ids)))
        with read_only(self._engine) as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def count(self, record_type: type[Record], origins: Collection[Origin] | None = None) -> int:
        """How many records of the type there are, of these origins."""
        table = TABLES[record_type]
        query = select(func.count()).select_from(table)
        if origins is not None:
            query = query.where(_of_session(table, origins))
        with read_only(self._engine) as connection:
            return int(connection.execute(query).scalar_one())

    def generators(self, *, origins: Collection[Origin], until: datetime | None = None) -> set[str]:
        """Ids of the generators that sessions began with or that wrote suggestions: one may be changed within a session."""
        table = TABLES[Suggestion]
        began = _between(select(SESSIONS.c.generator_id), SESSIONS, None, until).where(_of_session(SESSIONS, origins))
        wrote = _between(select(table.c.generator_id), table, None, until).where(_of_session(table, origins))
        with read_only(self._engine) as connection:
            return set(connection.execute(began.union(wrote)).scalars())

    def add_version(self, version: GeneratorVersion) -> None:
        """Commit the fact that a generator became the active one; one whose id is there already is ignored."""
        with writing(self._engine) as connection:
            insert_new(connection, VERSIONS, [to_row(version)])
        self._require_same_file()

    def versions(self) -> list[GeneratorVersion]:
        """Every generator that became the active one, the earliest first. Few: they are made by hand."""
        with read_only(self._engine) as connection:
            rows = connection.execute(select(VERSIONS).order_by(VERSIONS.c.at, VERSIONS.c.id)).mappings().all()
        return [from_plain(GeneratorVersion, dict(row)) for row in rows]

    def erase(self, user_key: str) -> int:
        """Delete all rows of a user; how many. On SQLite their bytes are overwritten, in the write-ahead log too.

        The sums and figures (`coderl_store.daily`) that were made of them go too.

        Not covered: what still waits in a spool (flush it first), lines set aside as damaged, backups, and on SQLite the
        write-ahead log while another process is reading (its content goes with the next checkpoint).
        """
        mine = select(SESSIONS.c.id).where(SESSIONS.c.user_key == user_key).scalar_subquery()
        deleted = 0
        with writing(self._engine, PATIENT_TIMEOUT_S) as connection:
            for kind in _CHILDREN:
                deleted += connection.execute(delete(TABLES[kind]).where(TABLES[kind].c.session_id.in_(mine))).rowcount
            deleted += connection.execute(delete(SESSIONS).where(SESSIONS.c.user_key == user_key)).rowcount
            connection.execute(delete(DAILY).where(DAILY.c.user_key == user_key))
            connection.execute(delete(FIGURES))  # they are made again of what is left
        self._checkpoint()
        return deleted

    def purge_before(self, moment: datetime) -> int:
        """Delete what is older than `moment` (retention); how many rows. A session stays while it has younger rows.

        A request that straddles the moment loses its older half; `requests` then leaves it out.
        """
        deleted = 0
        children = [TABLES[kind] for kind in _CHILDREN]
        with writing(self._engine) as connection:
            for table in children:
                deleted += connection.execute(delete(table).where(table.c.at < moment)).rowcount
            old = delete(SESSIONS).where(SESSIONS.c.at < moment)
            for table in children:
                old = old.where(~exists().where(table.c.session_id == SESSIONS.c.id))
            deleted += connection.execute(old).rowcount
        self._checkpoint()
        return deleted

    def _pages(self, query: Select[Any], table: Table, batch: int) -> Iterator[Sequence[RowMapping]]:
        """The rows by (at, id), `batch` at a time, each page in a transaction of its own."""
        ordered = query.order_by(table.c.at, table.c.id).limit(batch)
        page_query = ordered
        while True:
            with read_only(self._engine) as connection:
                page = connection.execute(page_query).mappings().all()
            yield page
            if len(page) < batch:
                return
            last = page[-1]
            page_query = ordered.where(tuple_(table.c.at, table.c.id) > tuple_(last["at"], last["id"]))

    def _complete(self, decisions: Sequence[Decision]) -> Iterator[LoggedRequest]:
        """The requests of one page of decisions: six queries, however many requests."""
        with read_only(self._engine) as connection:

            def first_by(kind: type[R], column: str, keys: Iterable[str]) -> dict[str, list[R]]:
                table = TABLES[kind]
                query = select(table).where(table.c[column].in_(sorted(set(keys)))).order_by(table.c.at, table.c.id)
                found: dict[str, list[R]] = {}
                for row in connection.execute(query).mappings():
                    found.setdefault(row[column], []).append(from_row(kind, dict(row)))
                return found

            sessions = first_by(Session, "id", (d.session_id for d in decisions))
            contexts = first_by(Context, "id", (d.context_id for d in decisions))
            suggestions = first_by(Suggestion, "decision_id", (d.id for d in decisions))
            outcomes = first_by(Outcome, "decision_id", (d.id for d in decisions))
            shadows = first_by(Shadow, "decision_id", (d.id for d in decisions))
            survivals = first_by(Survival, "suggestion_id", (s.id for found in suggestions.values() for s in found))
        for decision in decisions:
            session = next(iter(sessions.get(decision.session_id, ())), None)
            context = _own(decision, contexts.get(decision.context_id, ()))
            if session is None or context is None:
                continue
            suggestion = _own(decision, suggestions.get(decision.id, ()))
            followed = survivals.get(suggestion.id, ()) if suggestion else ()
            yield LoggedRequest(
                session=session,
                context=context,
                decision=decision,
                suggestion=suggestion,
                outcome=_own(decision, outcomes.get(decision.id, ())),
                survival=tuple(sorted((s for s in followed if s.session_id == session.id), key=lambda s: s.after_s)),
                shadow=_own(decision, shadows.get(decision.id, ())),
            )

    def _require_same_file(self) -> None:
        """A commit into a file that was deleted or replaced meanwhile is not safe. The caller opens a new `Repository`."""
        if self._identity != (now := identity(self._engine)):
            self._engine.dispose()
            raise DatabaseError(
                f"The database {database_file(self._engine)} was {'deleted' if now is None else 'replaced'} while in use."
            )

    def _checkpoint(self) -> None:
        """Take what was deleted out of SQLite's write-ahead log."""
        if self._engine.dialect.name == "sqlite":
            with read_only(self._engine) as connection:
                connection.rollback()  # a checkpoint runs outside transactions
                checkpoint(connection)

    def _sync_folder(self) -> None:
        try:
            sync_folder(self._engine)
        except OSError as error:
            raise DatabaseError(f"The folder of {database_file(self._engine)} cannot be synced ({error.strerror}).") from error


def _own(decision: Decision, found: Iterable[C]) -> C | None:
    """The first of the rows that is of the decision's session."""
    return next((row for row in found if row.session_id == decision.session_id), None)


def _between(query: Select[Any], table: Table, since: datetime | None, until: datetime | None) -> Select[Any]:
    if since is not None:
        query = query.where(table.c.at >= since)
    return query if until is None else query.where(table.c.at < until)


def _of_session(table: Table, origins: Collection[Origin], user_key: str | None = None) -> ColumnElement[bool]:
    """The condition that a row's session has one of the origins, and the user.

    Correlated on purpose: given a list of session ids SQLite reads by session, and sorts the whole table for every page.
    """
    values = [origin.value for origin in origins]
    if table is SESSIONS:
        own = table.c.origin.in_(values)
        return own if user_key is None else own & (table.c.user_key == user_key)
    found = exists().where(SESSIONS.c.id == table.c.session_id, SESSIONS.c.origin.in_(values))
    return found if user_key is None else found.where(SESSIONS.c.user_key == user_key)
