"""Joined requests taken apart into the records that a database is filled with."""

from __future__ import annotations

from collections.abc import Iterable

from coderl_store.records import Record
from coderl_store.repository import LoggedRequest


def records_of(requests: Iterable[LoggedRequest]) -> list[Record]:
    """Each record once. Ids are unique within a type only."""
    found: dict[tuple[type, str], Record] = {}
    for one in requests:
        for record in (one.session, one.context, one.decision, one.suggestion, one.outcome, *one.survival):
            if record is not None:
                found[type(record), record.id] = record
    return list(found.values())
