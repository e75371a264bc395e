"""What the log really holds of a session, against what the server acknowledged. Reads the database; never in the server's
process."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coderl_store.codec import encode
from coderl_store.home import StoreSettings, default_database_url
from coderl_store.records import RECORD_TYPES, Decision, Outcome


@dataclass(frozen=True, slots=True)
class Audit:
    """A session's rows, read back."""

    missing: int
    """Acknowledged records that are not there."""
    foreign: int
    """Decisions that are there under this session's ids with another content: an earlier session of the same seed."""
    outcomes: tuple[str, ...]
    """The outcomes' canonical lines, by (time, id)."""

    @classmethod
    def read(cls, home: Path | None, session_id: str, acknowledged: Sequence[str], decided: Mapping[str, str]) -> Audit:
        """Read the log of `home` (None = of the environment). Raises StoreError where it cannot be read.

        `decided`: decision id → canonical line, as the server told them. Where nothing was acknowledged (privacy `off`), the
        log is not opened.
        """
        if not acknowledged:
            return cls(0, 0, ())
        from coderl_store.repository import Repository

        if home is None:
            url = StoreSettings.from_environment(os.environ.get("CODERL_DATABASE_URL")).database_url
        else:
            url = default_database_url(home.resolve())
        repository = Repository(url)
        try:
            # A request's context and decision share one id, so ids are counted, not collected.
            found: Counter[str] = Counter()
            outcomes: list[str] = []
            foreign = 0
            for record_type in RECORD_TYPES:
                for record in repository.stream(record_type, session_ids=[session_id]):
                    found[record.id] += 1
                    if isinstance(record, Outcome):
                        outcomes.append(encode(record))
                    elif isinstance(record, Decision):
                        foreign += decided.get(record.id) != encode(record)
        finally:
            repository.close()
        return cls((Counter(acknowledged) - found).total(), foreign, tuple(outcomes))
