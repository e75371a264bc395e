"""Decisions with what became of them, without features and without text: what pages and sums read, quickly.

One query per read; memory is what is asked for. As in `Repository.requests`, a decision whose context or session is not in the
database is left out, and of several suggestions or outcomes the first by (at, id) counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, FromClause, Select, func, select

from .columns import first_of
from .dialect import read_only
from .records import KEPT_KINDS, Action, Context, Decision, Origin, Outcome, OutcomeKind, Session, Suggestion
from .tables import TABLES

EDITOR_ONLY = (Origin.EDITOR,)
_DRAWN_DIGITS = 3
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Decided:
    """One request. Enums by value; None where the log has nothing."""

    id: str
    at: datetime
    session_id: str
    user_key: str
    language: str
    trigger: str
    generator_id: str
    gate_id: str
    route: str
    stage: str
    action: str
    reason: str
    p1: float | None
    p2: float | None
    tau_before: float | None
    tau: float | None
    h_bits: float | None
    eagerness: float
    epsilon_withhold: float
    propensity: float
    expected_costs: dict[str, float] | None
    """As `records.Costs` has them, plain."""
    costs: dict[str, float] | None
    timings: dict[str, float | None]
    chars: int | None
    """Of the suggestion; None where there is none."""
    lines: int | None
    outcome: str | None
    evidence: str | None
    accepted_chars: int | None
    visible_ms: float | None

    @property
    def shown(self) -> bool:
        """Whether something reached the editor."""
        return self.action == Action.SHOW

    @property
    def seen(self) -> bool:
        """Whether it was shown, and the programmer can have judged it."""
        return self.shown and self.outcome not in (None, OutcomeKind.NOT_SEEN)

    @property
    def kept(self) -> bool:
        """Whether the programmer took the text."""
        return self.outcome in KEPT_KINDS

    @property
    def kept_chars(self) -> int:
        """Characters that were kept; a keep without a count is the whole text."""
        if not self.kept or self.chars is None:
            return 0
        return min(self.accepted_chars or 0, self.chars) or self.chars


def read_decided(
    engine: Engine,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    user_key: str | None = None,
    reasons: Collection[str] = (),
    languages: Collection[str] = (),
    action: str | None = None,
    judged: bool = False,
    decision_id: str | None = None,
    origins: Collection[Origin] = EDITOR_ONLY,
    newest: int | None = None,
    skip: int = 0,
    share: float = 1.0,
) -> list[Decided]:
    """The requests decided in `since` ≤ at < `until`, the latest first, at most the `newest` of them after `skip`.

    `judged`: only those that were shown and have an outcome. `share`: about that share of them, drawn by the last digits of
    their ids, which are random: always the same ones, and all of one decision's or none. Raises `DatabaseError`.
    """
    table, sessions = TABLES[Decision], TABLES[Session]
    query = select(table).join(sessions, sessions.c.id == table.c.session_id)
    query = query.where(sessions.c.origin.in_([origin.value for origin in origins]))
    for column, value in ((sessions.c.user_key, user_key), (table.c.action, action), (table.c.id, decision_id)):
        if value is not None:
            query = query.where(column == value)
    if since is not None:
        query = query.where(table.c.at >= since)
    if until is not None:
        query = query.where(table.c.at < until)
    if reasons:
        query = query.where(table.c.reason.in_(sorted(reasons)))
    if languages:
        contexts = TABLES[Context]
        query = query.join(contexts, contexts.c.id == table.c.context_id).where(contexts.c.language.in_(sorted(languages)))
    if judged:
        outcomes = TABLES[Outcome]
        query = query.where(table.c.action == Action.SHOW.value).where(
            select(outcomes.c.id).where(outcomes.c.decision_id == table.c.id).exists()
        )
    if share < 1.0:
        last = func.substr(table.c.id, func.length(table.c.id) - (_DRAWN_DIGITS - 1), _DRAWN_DIGITS)
        query = query.where(last < f"{round(share * 16**_DRAWN_DIGITS):0{_DRAWN_DIGITS}x}")
    query = query.order_by(table.c.at.desc(), table.c.id.desc()).limit(newest).offset(skip or None)
    with read_only(engine) as connection:
        return [Decided(*row) for row in connection.execute(_with_the_rest(query))]


def by_the_hour(engine: Engine, since: datetime, until: datetime) -> Iterator[Decided]:
    """All of `read_decided`, the earliest hour first, each hour a query of its own.

    For a day of a long log PostgreSQL reads the other tables from end to end (7.6 s at ten million decisions), for an hour it
    does not. What is added meanwhile may be among them or not. Raises `DatabaseError`.
    """
    while since < until:
        end = min(since + _HOUR, until)
        yield from read_decided(engine, since=since, until=end)
        since = end


def _with_the_rest(chosen: Select[Any]) -> Select[Any]:
    """One row per decision, in the order of `Decided`'s fields."""
    page = chosen.cte("page")
    sessions, contexts, suggestions, outcomes = (TABLES[kind] for kind in (Session, Context, Suggestion, Outcome))
    source: FromClause = page.join(sessions, sessions.c.id == page.c.session_id)
    source = source.join(contexts, contexts.c.id == page.c.context_id)
    source = source.outerjoin(suggestions, suggestions.c.id == first_of(suggestions, page))
    source = source.outerjoin(outcomes, outcomes.c.id == first_of(outcomes, page))
    places = {
        "user_key": sessions.c.user_key,
        **{name: contexts.c[name] for name in ("language", "trigger")},
        **{name: suggestions.c[name] for name in ("chars", "lines")},
        "outcome": outcomes.c.kind,
        **{name: outcomes.c[name] for name in ("evidence", "accepted_chars", "visible_ms")},
    }
    columns = [places[one.name] if one.name in places else page.c[one.name] for one in fields(Decided)]
    return select(*columns).select_from(source).order_by(page.c.at.desc(), page.c.id.desc())
