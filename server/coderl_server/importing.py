"""`coderl import cups`: public telemetry into the log, where calibration, replay and export find it like anybody's sessions.

Rows are marked `imported` (origin and evidence) and enter nothing unless asked for (`--origin imported`). Their ids come from
the file alone, so a second import adds nothing. At the privacy level `metrics` features are stored, and no text; importing
again at the level `code` does not add the text to rows that are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from coderl_gate import cups
from coderl_gate.errors import DataError
from coderl_store.codec import record_name
from coderl_store.home import StoreSettings
from coderl_store.privacy import admit
from coderl_store.records import Origin, Privacy, Record
from coderl_store.repository import LoggedRequest, Repository

from .errors import InputError


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import found and added."""

    events: int
    """Rows of the file, good and bad."""
    problems: tuple[cups.Problem, ...]
    """The rows that were skipped."""
    decisions: int
    """Requests with a decision that the file holds."""
    records: Mapping[str, int]
    """Record type → records that the file makes."""
    new: Mapping[str, int]
    """Record type → records that were not in the log before."""
    privacy: Privacy
    database: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "events": self.events,
            "skipped": [{"line": problem.line, "why": problem.sentence} for problem in self.problems],
            "decisions": self.decisions,
            "new_decisions": self.new["decision"],
            "records": dict(self.records),
            "new_records": dict(self.new),
            "privacy": self.privacy.value,
            "database": self.database,
        }

    def render(self, console: Any) -> None:
        """A sentence, and one per skipped row."""
        for problem in self.problems:
            console.print(f"• Line {problem.line} skipped: {problem.sentence}.", highlight=False, markup=False)
        total = sum(self.records.values())
        console.print(
            f"{self.events} rows read, {len(self.problems)} skipped: {self.decisions} decisions ({self.new['decision']} new), "
            f"{total} records ({sum(self.new.values())} new) in {self.database}.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def import_cups(path: Path, database: str | None = None) -> Imported:
    """Load the telemetry at `path` (its folder or `events.jsonl` itself) into the log, all of it or nothing.

    Raises `InputError` where there is nothing to read or nothing may be recorded.
    """
    settings = StoreSettings.from_environment(database)
    if settings.privacy is Privacy.OFF:
        raise InputError("CODERL_PRIVACY is off, so nothing may be recorded: set it to metrics or code to import.")
    try:
        log = cups.read(path)
    except DataError as error:
        raise InputError(str(error)) from error
    records = {record.id: record for request in log.requests for record in records_of(request)}
    admitted = [admitted for record in records.values() if (admitted := admit(record, settings.privacy)) is not None]
    kinds = tuple(dict.fromkeys(type(record) for record in admitted))
    repository = Repository(settings.database_url)
    try:
        before = {kind: repository.count(kind, (Origin.IMPORTED,)) for kind in kinds}
        repository.append(admitted)
        new = {record_name(kind): repository.count(kind, (Origin.IMPORTED,)) - before[kind] for kind in kinds}
        shown_url = repository.engine.url.render_as_string(hide_password=True)
    finally:
        repository.close()
    return Imported(
        events=log.events,
        problems=log.problems,
        decisions=len(log.requests),
        records=MappingProxyType({record_name(kind): sum(type(record) is kind for record in admitted) for kind in kinds}),
        new=MappingProxyType(new),
        privacy=settings.privacy,
        database=shown_url,
    )


def records_of(request: LoggedRequest) -> Iterator[Record]:
    """The records that one request is made of."""
    yield from (request.session, request.context, request.decision)
    yield from (record for record in (request.suggestion, request.outcome) if record is not None)
    yield from request.survival
