"""What the log really holds of a session, against what the server acknowledged. Reads the database; never in the server's
process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coderl_store.codec import encode
from coderl_store.records import RECORD_TYPES, Decision, Outcome, Session


@dataclass(frozen=True, slots=True)
class Audit:
    """A session's rows, read back."""

    missing: int
    """Acknowledged records that are not there."""
    foreign: int
    """Decisions that are there under this session's id with another content: another run's, so this one's are lost."""
    outcomes: tuple[str, ...]
    """The outcomes' canonical lines, by (time, id)."""

    @property
    def lost(self) -> int:
        """Acknowledged records whose content is not in the log."""
        return self.missing + self.foreign

    @classmethod
    def read(cls, database_url: str, session_id: str, acknowledged: Sequence[str], decided: Mapping[str, str]) -> Audit:
        """Read the log. Raises StoreError where it cannot be read.

        `decided`: decision id → canonical line, as the server told them. Where nothing was acknowledged (privacy `off`), the
        log is not opened.
        """
        if not acknowledged:
            return cls(0, 0, ())
        from coderl_store.repository import Repository

        repository = Repository(database_url)
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


def in_the_log(database_url: str, session_id: str) -> bool:
    """Whether a run of this session is in the log, whole or broken off. Raises StoreError where the log cannot be read."""
    from coderl_store.repository import Repository

    repository = Repository(database_url)
    try:
        return any(True for _ in repository.stream(Session, session_ids=[session_id]))
    finally:
        repository.close()
