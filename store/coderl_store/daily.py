"""Sums of the log per UTC day and programmer: what makes pages about months of many people quick.

They hold nothing that the log does not say. A day is summed again where the number of its decisions or outcomes is no longer
the one it was summed from (`Daily.stale`): late records, erasure and retention reach the sums without anybody marking anything.
What is summed, and how, is the gate's to know (`coderl_gate.daily`); this module keeps it.

Covered: several processes that sum the same day (the sums of one are in the table, whole, with the counts they were made of).
Not covered: a day in which exactly as many records went as came between two looks (erasure removes its own rows itself).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Engine, Table, delete, func, insert, select, update

from .day_sums import NUMBERS, DaySums, Part
from .dialect import PATIENT_TIMEOUT_S, insert_new, read_only, writing
from .records import Decision, Outcome
from .tables import DAILY, DAYS, FIGURES, TABLES

VERSION = 1
"""Of the sums' meaning: days summed under another one are summed again."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DayState:
    """What a day held when it was summed, or holds now."""

    day: str
    decisions: int
    outcomes: int
    version: int = VERSION


class Daily:
    """The sums in one database. Safe to use from several threads. Raises `DatabaseError`."""

    def __init__(self, engine: Engine) -> None:
        """The engine is that of a migrated database (`Repository.engine`)."""
        self._engine = engine

    def stale(self, since: date | None = None) -> list[DayState]:
        """The days whose sums are missing or no longer right, the latest first, with what they hold now."""
        summed = self._summed()
        first, last = self._ends()
        if first is None or last is None:
            return [DayState(day, 0, 0) for day in sorted(summed, reverse=True)]
        found: list[DayState] = []
        day = first if since is None else max(first, since)
        while day <= last:
            now = self._state(day)
            if summed.pop(now.day, DayState(now.day, 0, 0)) != now:
                found.append(now)
            day += _DAY
        gone = [one for one in summed if since is None or one >= since.isoformat()]
        return sorted([*found, *(DayState(one, 0, 0) for one in gone)], key=lambda state: state.day, reverse=True)

    def summed(self, state: DayState) -> bool:
        """Whether somebody summed the day as it is meanwhile."""
        with read_only(self._engine) as connection:
            row = connection.execute(select(DAYS).where(DAYS.c.day == state.day)).first()
        return row is not None and DayState(row.day, row.decisions, row.outcomes, row.version) == state

    def put(self, state: DayState, sums: Mapping[Part, DaySums]) -> None:
        """Replace what is known of a day. `state` is as it was before the day was read."""
        rows = [_row(part, one) for part, one in sums.items()]
        values = {one.name: getattr(state, one.name) for one in fields(DayState)}
        with writing(self._engine, PATIENT_TIMEOUT_S) as connection:
            _replace(connection, DAYS, DAYS.c.day, values)  # from here on others wait who sum the same day
            connection.execute(delete(DAILY).where(DAILY.c.day == state.day))
            if rows:
                connection.execute(insert(DAILY), rows)
            if not (state.decisions or state.outcomes):
                connection.execute(delete(DAYS).where(DAYS.c.day == state.day))

    def sums(
        self,
        by: Sequence[str],
        *,
        since: date | None = None,
        until: date | None = None,
        user_key: str | None = None,
        languages: Collection[str] = (),
        generators: Collection[str] = (),
        reasons: bool = False,
    ) -> dict[tuple[str, ...], DaySums]:
        """Sums of the days `since` ≤ day < `until`, grouped by fields of `Part`, in their order. `reasons` are left out unless
        asked for: they are added up here, row by row."""
        keys = [DAILY.c[name] for name in by]
        chosen = _chosen(since, until, user_key, languages, generators)
        totals = [func.sum(DAILY.c[name]) for name in NUMBERS]
        query = select(*keys, *totals).where(*chosen).group_by(*keys).order_by(*keys)
        with read_only(self._engine) as connection:
            rows = connection.execute(query).all()
            found = {tuple(row[: len(by)]): _of(row[len(by) :]) for row in rows if row[-1] is not None}
            if reasons:
                for row in connection.execute(select(*keys, DAILY.c.reasons).where(*chosen)):
                    known = found[tuple(row[:-1])].reasons
                    for reason, count in row[-1].items():
                        known[reason] = known.get(reason, 0) + count
        return found

    def members(
        self,
        by: str,
        *,
        since: date | None = None,
        until: date | None = None,
        languages: Collection[str] = (),
        generators: Collection[str] = (),
    ) -> dict[str, set[str]]:
        """User keys that have requests in each group by a field of `Part`."""
        chosen = _chosen(since, until, None, languages, generators)
        query = select(DAILY.c[by], DAILY.c.user_key).where(*chosen).distinct()
        found: dict[str, set[str]] = {}
        with read_only(self._engine) as connection:
            for name, user_key in connection.execute(query):
                found.setdefault(name, set()).add(user_key)
        return found

    def decisions(self, since: date | None = None) -> int:
        """How many there are, of all origins, in the days that were summed."""
        query = select(func.sum(DAYS.c.decisions))
        if since is not None:
            query = query.where(DAYS.c.day >= since.isoformat())
        with read_only(self._engine) as connection:
            return int(connection.execute(query).scalar() or 0)

    def figure(self, name: str) -> tuple[datetime, Any] | None:
        """What was kept under a name, and when it was made."""
        query = select(FIGURES.c.at, FIGURES.c.content).where(FIGURES.c.name == name)
        with read_only(self._engine) as connection:
            row = connection.execute(query).first()
        return None if row is None else (row[0], row[1])

    def put_figure(self, name: str, at: datetime, content: Any) -> None:
        """Keep plain data under a name, in place of what was there."""
        with writing(self._engine, PATIENT_TIMEOUT_S) as connection:
            _replace(connection, FIGURES, FIGURES.c.name, {"name": name, "at": at, "content": content})

    def _summed(self) -> dict[str, DayState]:
        with read_only(self._engine) as connection:
            return {
                row.day: DayState(row.day, row.decisions, row.outcomes, row.version) for row in connection.execute(select(DAYS))
            }

    def _ends(self) -> tuple[date | None, date | None]:
        at = TABLES[Decision].c.at
        with read_only(self._engine) as connection:
            first, last = (connection.execute(select(end(at))).scalar() for end in (func.min, func.max))
        return None if first is None else first.date(), None if last is None else last.date()

    def _state(self, day: date) -> DayState:
        start, end = bounds(day)
        counts = []
        with read_only(self._engine) as connection:
            for kind in (Decision, Outcome):
                at = TABLES[kind].c.at
                counts.append(connection.execute(select(func.count()).where(at >= start, at < end)).scalar_one())
        return DayState(day.isoformat(), *counts)


def bounds(day: date) -> tuple[datetime, datetime]:
    """The first moment of a day, and of the next one, in UTC."""
    start = datetime.combine(day, time(), UTC)
    return start, start + _DAY


def _replace(connection: Connection, table: Table, key: Column[str], values: dict[str, Any]) -> None:
    """Put a row in place of the one with its key. Two that do so at once come one after the other, also on PostgreSQL."""
    if not insert_new(connection, table, [values]):
        connection.execute(update(table).where(key == values[key.name]).values(values))


def _row(part: Part, sums: DaySums) -> dict[str, Any]:
    return {**asdict(part), **asdict(sums)}


def _of(values: Sequence[Any]) -> DaySums:
    """PostgreSQL adds whole numbers up to decimal ones."""
    sums = DaySums()
    for (name, kind), value in zip(NUMBERS.items(), values, strict=True):
        setattr(sums, name, kind(value))
    return sums


def _chosen(
    since: date | None, until: date | None, user_key: str | None, languages: Collection[str], generators: Collection[str]
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if since is not None:
        conditions.append(DAILY.c.day >= since.isoformat())
    if until is not None:
        conditions.append(DAILY.c.day < until.isoformat())
    if user_key is not None:
        conditions.append(DAILY.c.user_key == user_key)
    if languages:
        conditions.append(DAILY.c.language.in_(sorted(languages)))
    if generators:
        conditions.append(DAILY.c.generator_id.in_(sorted(generators)))
    return conditions
