"""The database's tables, made from the dataclasses: one table per record type, one column per field.

Text, numbers and enums (by value) are plain columns; tuples, mappings and dataclasses inside a record are JSON; times are
stored in UTC. There are no foreign keys: records of one request may arrive in any order, and a log is never refused for its
neighbours. Indexes are what the streaming reads, the erasure and the joins of `Repository.requests` need.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TypeVar

from sqlalchemy import JSON, BigInteger, Column, DateTime, Dialect, Double, Index, MetaData, String, Table
from sqlalchemy.types import TypeDecorator, TypeEngine

from .codec import FieldSpec, Kind, field_specs, from_plain, to_plain
from .day_sums import NUMBERS, PART_NAMES
from .jobs import Job
from .members import Agreement, Audit, Token
from .records import RECORD_TYPES, Context, Decision, Incident, Outcome, Record, Session, Suggestion, Survival
from .shadow import Shadow
from .versions import GeneratorVersion

R = TypeVar("R", bound=Record)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime in, an aware UTC datetime out, whatever the database knows of time zones (SQLite: nothing)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


TABLE_NAMES: Mapping[type[Record], str] = MappingProxyType(
    {
        Session: "sessions",
        Context: "contexts",
        Decision: "decisions",
        Suggestion: "suggestions",
        Outcome: "outcomes",
        Survival: "survivals",
        Shadow: "shadows",
        Incident: "incidents",
    }
)

_LOOKUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sessions": ("user_key",),
        "contexts": ("session_id",),
        "decisions": ("session_id", "context_id"),
        "suggestions": ("session_id", "decision_id"),
        "outcomes": ("session_id", "decision_id"),
        "survivals": ("session_id", "suggestion_id"),
        "shadows": ("session_id", "decision_id"),
        "incidents": ("session_id",),
    }
)
"""Columns that rows are looked up by, besides (at, id)."""


def _column_type(kind: Kind) -> TypeEngine[Any]:
    if kind is Kind.TIME:
        return UtcDateTime()
    if kind is Kind.INTEGER:
        return BigInteger()
    if kind is Kind.REAL:
        return Double()
    if kind is Kind.JSON:
        return JSON(none_as_null=True)
    return String()


def _column(spec: FieldSpec) -> Column[Any]:
    converter = spec.converter
    return Column(spec.name, _column_type(converter.kind), primary_key=spec.name == "id", nullable=converter.optional)


def _table(record_type: type[Record], metadata: MetaData) -> Table:
    name = TABLE_NAMES[record_type]
    table = Table(name, metadata, *(_column(spec) for spec in field_specs(record_type)))
    Index(f"ix_{name}_at_id", table.c.at, table.c.id)
    for column in _LOOKUPS[name]:
        Index(f"ix_{name}_{column}", table.c[column])
    return table


METADATA = MetaData()
TABLES: Mapping[type[Any], Table] = MappingProxyType({kind: _table(kind, METADATA) for kind in RECORD_TYPES})
"""Record type → table. Constant once this module is imported."""


SESSIONS: Table = TABLES[Session]


def _fact(name: str, kind: type[Any], metadata: MetaData, *lookups: str) -> Table:
    """A table beside the log: its rows belong to no session."""
    table = Table(name, metadata, *(_column(spec) for spec in field_specs(kind)))
    Index(f"ix_{name}_at_id", table.c.at, table.c.id)
    for column in lookups:
        Index(f"ix_{name}_{column}", table.c[column])
    return table


VERSIONS = _fact("generator_versions", GeneratorVersion, METADATA, "generator_id")
TOKENS = _fact("tokens", Token, METADATA, "user_key")
AUDITS = _fact("audits", Audit, METADATA, "subject")
AGREEMENTS = _fact("agreements", Agreement, METADATA)
JOBS = _fact("jobs", Job, METADATA, "state")

DAILY = Table(
    "daily",
    METADATA,
    *(Column(name, String(), primary_key=True, nullable=False) for name in PART_NAMES),
    *(Column(name, BigInteger() if kind is int else Double(), nullable=False) for name, kind in NUMBERS.items()),
    Column("reasons", JSON(), nullable=False),
    Index("ix_daily_user_key", "user_key"),
    sqlite_with_rowid=False,
)
"""Sums of the log per day and programmer (`coderl_store.daily`). Stored by the day, which is what ranges are read by."""
DAYS = Table(
    "days",
    METADATA,
    Column("day", String(), primary_key=True, nullable=False),
    *(Column(name, BigInteger(), nullable=False) for name in ("decisions", "outcomes", "version")),
)
"""What each day held when it was summed."""
FIGURES = Table(
    "figures",
    METADATA,
    Column("name", String(), primary_key=True, nullable=False),
    Column("at", UtcDateTime(), nullable=False),
    Column("content", JSON(), nullable=False),
)
"""Figures that take long to make, as plain data, by name."""


def to_row(record: Record | GeneratorVersion | Token | Audit | Agreement | Job) -> dict[str, Any]:
    """Column name → value. Raises `RecordError` where the record holds what cannot be stored."""
    return {**to_plain(record), "at": record.at}


def from_row(record_type: type[R], row: Mapping[Any, Any]) -> R:
    """The record of a row. Raises `RecordError` where the row does not hold one."""
    record: R = from_plain(record_type, row)
    return record
