"""What a person looks up in the log: one decision's text, what is held about a programmer, what failed. Each is one short read.

Raises `DatabaseError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, func, select

from .dialect import read_only
from .records import RECORD_TYPES, Context, Decision, Incident, Session, Suggestion
from .tables import SESSIONS, TABLE_NAMES, TABLES


@dataclass(frozen=True, slots=True)
class Texts:
    """*text*: what stood around the place and what was suggested; None at privacy level `metrics`."""

    prefix: str | None
    suffix: str | None
    suggestion: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """What the log holds about one programmer."""

    counts: Mapping[str, int]
    """Table → rows."""
    first: datetime | None
    last: datetime | None
    """Of their decisions."""
    texts: int
    """Contexts that hold code."""

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Failures:
    """Incidents of one kind."""

    severity: str
    code: str
    count: int
    last: datetime


def texts_of(engine: Engine, decision_id: str) -> Texts | None:
    """The text of one decision; None where there is no such decision."""
    decisions, contexts, suggestions = (TABLES[kind] for kind in (Decision, Context, Suggestion))
    source = decisions.join(contexts, contexts.c.id == decisions.c.context_id)
    source = source.outerjoin(suggestions, suggestions.c.decision_id == decisions.c.id)
    query = select(contexts.c.prefix, contexts.c.suffix, suggestions.c.text).select_from(source)
    query = query.where(decisions.c.id == decision_id).order_by(suggestions.c.at, suggestions.c.id).limit(1)
    with read_only(engine) as connection:
        row = connection.execute(query).first()
    return None if row is None else Texts(*row)


def held(engine: Engine, user_key: str) -> Held:
    """What is in the database about a programmer."""
    mine = select(SESSIONS.c.id).where(SESSIONS.c.user_key == user_key)
    counts: dict[str, int] = {}
    with read_only(engine) as connection:
        for kind in RECORD_TYPES:
            table = TABLES[kind]
            own = table.c.user_key == user_key if kind is Session else table.c.session_id.in_(mine)
            counts[TABLE_NAMES[kind]] = connection.execute(select(func.count()).select_from(table).where(own)).scalar_one()
        decisions, contexts = TABLES[Decision], TABLES[Context]
        ends = select(func.min(decisions.c.at), func.max(decisions.c.at)).where(decisions.c.session_id.in_(mine))
        first, last = connection.execute(ends).one()
        with_text = contexts.c.session_id.in_(mine) & contexts.c.prefix.is_not(None)
        texts = connection.execute(select(func.count()).select_from(contexts).where(with_text)).scalar_one()
    return Held(counts, first, last, texts)


def failures(engine: Engine, since: datetime, user_key: str | None = None) -> list[Failures]:
    """Incidents since then by severity and code, the most frequent first."""
    table = TABLES[Incident]
    query = select(table.c.severity, table.c.code, func.count(), func.max(table.c.at)).where(table.c.at >= since)
    if user_key is not None:
        query = query.where(table.c.session_id.in_(select(SESSIONS.c.id).where(SESSIONS.c.user_key == user_key)))
    query = query.group_by(table.c.severity, table.c.code).order_by(func.count().desc(), table.c.code)
    with read_only(engine) as connection:
        return [Failures(*row) for row in connection.execute(query)]
