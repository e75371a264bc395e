"""What the rest of the house knows of the log: a place to put records."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .records import Record


@dataclass(frozen=True, slots=True)
class LogHealth:
    """How the log is doing. Counts are records since `start`, those adopted from dead processes included."""

    pending: int
    """Acknowledged (safe in the spool), not yet in the database."""
    committed: int
    """New rows in the database."""
    duplicates: int
    """Records that were there already: replays after a crash, or an id appended twice."""
    damaged: int
    """Lines set aside because they could not be read or the database refused their content."""
    last_error: str | None
    """Why records are waiting, in one sentence; None while all is well."""
    torn: int = 0
    """Segments of dead processes that ended in the middle of a line; that line was never acknowledged."""


@runtime_checkable
class RecordSink(Protocol):
    """`Log`, or `MemoryLog` in tests."""

    def start(self) -> None:
        """Begin to accept records. Returns at once."""
        ...

    def append(self, *records: Record) -> None:
        """Return once the records are safe. Raises `SpoolError` (not acknowledged) or `RecordError` (not a valid record)."""
        ...

    def submit(self, *records: Record) -> Future[None]:
        """Never blocks, never raises; the future resolves once the records are safe, or carries the error of `append`."""
        ...

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything submitted so far is committed; False if that took longer."""
        ...

    def close(self, timeout_s: float) -> None:
        """Stop accepting, commit what can be committed within `timeout_s`; the rest waits in the spool for the next start."""
        ...

    def health(self) -> LogHealth:
        """The state now."""
        ...
