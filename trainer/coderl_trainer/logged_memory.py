"""Which rows of the log a run learns from, noted in its folder, so that it goes on with the same ones however the log grew.

    log_rows.json    {"schema": 1, "rows": [{"id", "measured_s", "sha256"} …], "left_out": {reason: count}, "sha256"}

A row is known by its decision's id, and its digest is over everything that is learned from it: tokens, log-probs, seconds,
propensity, estimates. The text itself is not copied: who is erased from the log is erased from here too. A measurement of
what stayed of a suggestion that came after the run began is not read, as it was not there then.

Covered: rows that were added, measured later, erased, or changed, a tokenizer or a critic that is another now; the last three
are errors. Not covered: a row whose measurements arrived in another order than they were made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from coderl_store.repository import LoggedRequest

from .errors import FeedbackError, RunError
from .logged import LoggedRow, LoggedRows
from .logged_tokens import NotUsed
from .run_files import canonical, read_json, write_whole

FILE: Final = "log_rows.json"
_SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Noted:
    """The rows of a run as they were when it began."""

    rows: Mapping[str, tuple[float | None, str]]
    """Decision id → (age at the last measurement, digest), in the order of the rows."""
    left_out: Mapping[NotUsed, int]

    @classmethod
    def of(cls, logged: LoggedRows) -> Self:
        """What is to be noted of these."""
        rows = {row.decision_id: (row.measured_s, digest(row)) for row in logged.rows}
        return cls(MappingProxyType(rows), logged.left_out)

    @classmethod
    def read(cls, run: Path) -> Self:
        """What was noted in a run's folder. Raises `RunError` where nothing was, or the file is damaged."""
        found = read_json(run / FILE)
        try:
            whole = found["schema"] == _SCHEMA and found["sha256"] == _of_all(found["rows"])
            rows = {row["id"]: (row["measured_s"], row["sha256"]) for row in found["rows"]}
            left_out = {NotUsed(name): int(count) for name, count in found["left_out"].items()}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RunError(f"{run / FILE} is damaged ({error!r}). Start the run anew.") from error
        if not whole:
            raise RunError(f"{run / FILE} is damaged: its rows are not those that were written. Start the run anew.")
        return cls(MappingProxyType(rows), MappingProxyType(left_out))

    def write(self, run: Path) -> None:
        """Note them in a run's folder. Raises `RunError` where the disk refuses."""
        rows = [{"id": name, "measured_s": age_s, "sha256": told} for name, (age_s, told) in self.rows.items()]
        left_out = {reason.value: count for reason, count in self.left_out.items()}
        told = {"schema": _SCHEMA, "rows": rows, "left_out": left_out, "sha256": _of_all(rows)}
        write_whole(run / FILE, canonical(told))

    def as_they_were(self, requests: Iterable[LoggedRequest]) -> Iterator[LoggedRequest]:
        """Of these requests the noted ones, without what was measured later."""
        for request in requests:
            if request.decision.id in self.rows:
                age_s, _ = self.rows[request.decision.id]
                known = tuple(one for one in request.survival if age_s is not None and one.after_s <= age_s)
                yield replace(request, survival=known)

    def require(self, found: LoggedRows) -> LoggedRows:
        """The rows read again, if they are those that were noted. Raises `FeedbackError` for rows that are gone or changed."""
        again = {row.decision_id: digest(row) for row in found.rows}
        gone = [name for name in self.rows if name not in again]
        changed = [name for name, (_, told) in self.rows.items() if name in again and again[name] != told]
        for names, what in ((gone, "no longer in the log"), (changed, "not as they were")):
            if names:
                raise FeedbackError(
                    f"{len(names)} of the {len(self.rows)} logged suggestions that this run learns from are {what} (the first: "
                    f"decision {names[0]}), so it cannot go on as it began: start it anew."
                )
        return LoggedRows(found.rows, self.left_out)


def digest(row: LoggedRow) -> str:
    """SHA-256 of everything that a row holds."""
    return hashlib.sha256(canonical(row).encode("utf-8")).hexdigest()


def _of_all(rows: Any) -> str:
    return hashlib.sha256(canonical({"rows": rows}).encode("utf-8")).hexdigest()
