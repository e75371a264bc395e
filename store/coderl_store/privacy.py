"""What of a record may leave memory at a privacy level. The one place that decides; `Log` asks it before anything is written.

Covered: at `metrics` the fields that hold the programmer's code, or token ids from which it can be read back, are emptied:
`Context.prefix`, `Context.suffix`, `Context.recent_rejections`, `Suggestion.text`, `Suggestion.token_ids`. At `off` nothing is
recorded at all.

Not covered: what was written earlier at a higher level stays until `Repository.erase` or `purge_before`; lengths, languages,
positions and log-probs are metrics and stay (they say something about the code, not what it is); `Incident.message` and
`Outcome.detail` are promised by their writers to hold no code and are not searched for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from .records import Context, Privacy, Record, Suggestion

TEXT_FIELDS: Mapping[type[Record], Mapping[str, Any]] = MappingProxyType(
    {
        Context: MappingProxyType({"prefix": None, "suffix": None, "recent_rejections": None}),
        Suggestion: MappingProxyType({"text": None, "token_ids": ()}),
    }
)
"""Record type → field marked *text* in `records` → the value that stands for "not recorded"."""


def admit(record: Record, level: Privacy) -> Record | None:
    """The record as it may be written at `level`; None where nothing may be."""
    if level is Privacy.CODE:
        return record
    if level is Privacy.METRICS:
        emptied = TEXT_FIELDS.get(type(record))
        return record if emptied is None else replace(record, **emptied)
    return None
