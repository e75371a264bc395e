"""A log that keeps its records in a list: the double with which other packages are tested. Privacy is enforced here too."""

from __future__ import annotations

from concurrent.futures import Future

from .codec import decode, encode
from .errors import RecordError, SpoolError
from .privacy import admit
from .records import Privacy, Record
from .sink import LogHealth


class MemoryLog:
    """Satisfies `RecordSink`. Records pass through the codec, so what the real log refuses is refused here.

    `failing` makes every append fail with a `SpoolError` until it is set back: a full disk, on demand.
    """

    def __init__(self, privacy: Privacy = Privacy.METRICS) -> None:
        self._privacy = privacy
        self._records: dict[tuple[type[Record], str], Record] = {}  # each type has a table, and ids, of its own
        self._duplicates = 0
        self.failing = False

    @property
    def records(self) -> tuple[Record, ...]:
        """What was admitted, in the order of arrival, each id once per type."""
        return tuple(self._records.values())

    def start(self) -> None:
        """Nothing to start."""

    def append(self, *records: Record) -> None:
        """Keep the records. Raises `SpoolError` while `failing`, `RecordError` on an invalid record (then none is kept)."""
        admitted = [kept for record in records if (kept := admit(record, self._privacy)) is not None]
        if self.failing and admitted:
            raise SpoolError("The spool cannot be written: this double was told to fail.")
        for record in [decode(encode(record)) for record in admitted]:
            key = (type(record), record.id)
            if key in self._records:
                self._duplicates += 1
            else:
                self._records[key] = record

    def submit(self, *records: Record) -> Future[None]:
        """`append`, with its result in a future that is done already."""
        future: Future[None] = Future()
        try:
            self.append(*records)
        except (SpoolError, RecordError) as error:
            future.set_exception(error)
        else:
            future.set_result(None)
        return future

    def flush(self, timeout_s: float = 0.0) -> bool:
        """True: nothing ever waits here."""
        return True

    def close(self, timeout_s: float = 0.0) -> None:
        """Nothing to close; the records stay readable."""

    def health(self) -> LogHealth:
        """Counts of what was kept."""
        error = "The spool cannot be written: this double was told to fail." if self.failing else None
        return LogHealth(0, len(self._records), self._duplicates, 0, error)
