"""The joined log as columns, page by page: what reading very many requests needs, without one object per record.

A page is the same join that `Repository.requests` makes, in one query: every decision with its session, its context and, where
there are any, its suggestion, its outcome and the last look at the accepted text. Features stay the JSON text that they are in
the database, because who reads a million rows wants to decode them in his own way.

Memory is one page; the cost is linear in the rows, and pages can be read by several processes at once. As in
`Repository.requests`, a decision whose context or session is not in the database is left out, and of several suggestions or
outcomes the first by (at, id) counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Engine,
    FromClause,
    Select,
    String,
    Table,
    cast,
    exists,
    func,
    literal,
    select,
    true,
    tuple_,
)

from .dialect import read_only
from .records import Context, Decision, Origin, Outcome, Session, Suggestion, Survival
from .tables import TABLES

FeatureCell = str | Mapping[str, float | None] | None
"""Features as JSON text (from a database) or as they are (from memory); None where there is no suggestion."""


@dataclass(frozen=True, slots=True)
class RequestColumns:
    """k requests as aligned sequences, by (at, id) of their decisions. Enums by value; None where the log has nothing."""

    decision_id: Sequence[str]
    decided_at: Sequence[datetime]
    session_id: Sequence[str]
    user_key: Sequence[str]
    origin: Sequence[str]
    action: Sequence[str]
    propensity: Sequence[float]
    costs: Sequence[str | Mapping[str, float] | None]
    """`Decision.costs` as JSON text or mapping."""
    context_features: Sequence[FeatureCell]
    context_version: Sequence[int]
    typing_interval_ms: Sequence[float | None]
    suggestion_id: Sequence[str | None]
    chars: Sequence[int | None]
    lines: Sequence[int | None]
    suggestion_features: Sequence[FeatureCell]
    suggestion_version: Sequence[int | None]
    outcome_at: Sequence[datetime | None]
    outcome_kind: Sequence[str | None]
    evidence: Sequence[str | None]
    visible_ms: Sequence[float | None]
    reading_ms: Sequence[float | None]
    accepted_chars: Sequence[int | None]
    survived: Sequence[float | None]
    """Share of the accepted text that was still there at the last look (largest `after_s`)."""

    def __len__(self) -> int:
        return len(self.decision_id)

    @classmethod
    def of_rows(cls, rows: Sequence[Sequence[Any]]) -> RequestColumns:
        """The columns of rows whose values are in the order of the fields."""
        return cls(*zip(*rows, strict=True)) if rows else cls(*([()] * len(fields(cls))))


Key = tuple[datetime, str]
"""What decisions are ordered by: (at, id)."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the log that can be read alone, also by another process: the decisions with `after` < (at, id) ≤ `last`."""

    origins: tuple[Origin, ...]
    since: datetime | None
    until: datetime | None
    after: Key | None
    last: Key | None
    """None means to the end, whatever has arrived by then."""

    def decisions(self) -> Select[Any]:
        """Its decisions, in any order. The bounds on `at` alone say nothing new but to PostgreSQL, which cannot tell from a
        pair how few rows are meant, and would read whole tables for them."""
        table, sessions = TABLES[Decision], TABLES[Session]
        values = [origin.value for origin in self.origins]
        query = _between(select(table), self.since, self.until)
        query = query.where(exists().where(sessions.c.id == table.c.session_id, sessions.c.origin.in_(values)))
        place = tuple_(table.c.at, table.c.id)
        if self.after is not None:
            query = query.where(place > tuple_(*map(literal, self.after)), table.c.at >= self.after[0])
        if self.last is None:
            return query
        return query.where(place <= tuple_(*map(literal, self.last)), table.c.at <= self.last[0])


def pages_of(
    engine: Engine,
    *,
    origins: Collection[Origin],
    since: datetime | None = None,
    until: datetime | None = None,
    batch: int = 20_000,
) -> tuple[Page, ...]:
    """The log in pages of `batch` decisions (of any origin) by (at, id), the last one shorter. Raises `DatabaseError`.

    One pass over an index; not a row is read.
    """
    table = TABLES[Decision]
    number = func.row_number().over(order_by=(table.c.at, table.c.id)).label("number")
    numbered = _between(select(table.c.at, table.c.id, number), since, until).subquery()
    query = select(numbered.c.at, numbered.c.id).where(numbered.c.number % batch == 0).order_by(numbered.c.number)
    with read_only(engine) as connection:
        borders: list[Key | None] = [(row[0], row[1]) for row in connection.execute(query)]
    chosen = tuple(origins)
    return tuple(Page(chosen, since, until, *ends) for ends in zip([None, *borders], [*borders, None], strict=True))


def read_page(engine: Engine, page: Page) -> RequestColumns:
    """The requests of a page. Raises `DatabaseError`."""
    with read_only(engine) as connection:
        rows = sorted(connection.execute(_joined(page.decisions().cte("page"))), key=itemgetter(1, 0))
    return RequestColumns.of_rows([row[:-1] for row in rows if row[-1] is not None])


def _between(query: Select[Any], since: datetime | None, until: datetime | None) -> Select[Any]:
    at = TABLES[Decision].c.at
    if since is not None:
        query = query.where(at >= since)
    return query if until is None else query.where(at < until)


def _joined(page: CTE) -> Select[Any]:
    """One row per decision of the page; the last column is the context's id, None where the context is missing."""
    sessions, contexts, suggestions, outcomes = (TABLES[kind] for kind in (Session, Context, Suggestion, Outcome))
    source: FromClause = page
    for table, key in (
        (sessions, page.c.session_id),
        (contexts, page.c.context_id),
        (suggestions, first_of(suggestions, page)),
        (outcomes, first_of(outcomes, page)),
    ):
        same = table.c.session_id == page.c.session_id if table is contexts else true()
        source = source.outerjoin(table, (table.c.id == key) & same)
    return select(
        page.c.id, page.c.at, page.c.session_id, sessions.c.user_key, sessions.c.origin, page.c.action, page.c.propensity,
        cast(page.c.costs, String), cast(contexts.c.features, String), contexts.c.feature_version,
        contexts.c.typing_interval_ms, suggestions.c.id, suggestions.c.chars, suggestions.c.lines,
        cast(suggestions.c.features, String), suggestions.c.feature_version, outcomes.c.at, outcomes.c.kind,
        outcomes.c.evidence, outcomes.c.visible_ms, outcomes.c.reading_ms, outcomes.c.accepted_chars,
        _last_share(suggestions), contexts.c.id,
    ).select_from(source)  # fmt: skip


def first_of(table: Table, page: CTE) -> ColumnElement[str]:
    """The id of the first row in `table` of each decision of `page`; a row of another session is none of its."""
    other = table.alias()
    return (
        select(other.c.id)
        .where(other.c.decision_id == page.c.id, _unindexed(other.c.session_id) == page.c.session_id)
        .order_by(other.c.at, other.c.id)
        .limit(1)
        .correlate(page)
        .scalar_subquery()
    )


def _unindexed(column: ColumnElement[str]) -> ColumnElement[str]:
    """The column as a value that no index holds: rows are found by what they belong to, a session has too many."""
    return column + literal("")


def _last_share(suggestions: Table) -> ColumnElement[float]:
    survivals = TABLES[Survival]
    return (
        select(survivals.c.share)
        .where(survivals.c.suggestion_id == suggestions.c.id, _unindexed(survivals.c.session_id) == suggestions.c.session_id)
        .order_by(survivals.c.after_s.desc(), survivals.c.at, survivals.c.id)
        .limit(1)
        .correlate(suggestions)
        .scalar_subquery()
    )
