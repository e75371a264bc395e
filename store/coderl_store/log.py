"""The log: `append` returns when a record is safe on disk, the database gets it when it can.

                  caller                spool thread             writer thread
    append ──── admit, encode ────▶ write + fsync (group) ────▶ read, commit, settle ────▶ database
                                    └─ acknowledged here          └─ segment deleted when all of it is committed

Crash windows, for a process killed (`kill -9`, power cut) at any moment:

1. before the `fsync` ends: not acknowledged. The record may be lost or found after restart; if the caller appends it again it
has
   the same id, so it is never doubled.
2. after the `fsync`, before the commit: acknowledged. The segment is found at the next start of any process with the same home
   folder, and replayed.
3. after the commit, before the segment is deleted: replayed, and ignored row by row, because ids are unique.
4. during the commit: the database's own recovery decides; then 2 or 3. SQLite runs with `synchronous=FULL`, so that what is
   committed is on disk before the segment goes.
5. while a damaged line is set aside: it is set aside again under the same name.

Covered: everything above; a database that is locked, read-only, full, missing, deleted while in use or no database at all
(the records wait, `health` and `on_incident` say why, and they arrive after the cure without a restart); lines that cannot be
read or that the database refuses (kept in `spool/damaged`, counted, reported).

Not covered: deleting the spool folder or the database file together with the records in it; a disk that lies about `fsync`; a
home folder shared by machines over a network; processes that share a home folder but name different databases (an orphan goes
to the database of whoever adopts it).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Protocol

from .clock import Clock
from .codec import decode
from .errors import DatabaseError, RecordError, SettingsError, SpoolError
from .home import StoreSettings
from .privacy import admit
from .records import Privacy, Record
from .segment import Line, unframe
from .sink import LogHealth
from .spool import Batch, Spool

BATCH_RECORDS = 512
"""Records per transaction, at most: what a commit costs is shared by so many."""
FIRST_RETRY_S, LONGEST_RETRY_S = 0.05, 5.0
"""The wait before trying the database again doubles between these, times a random factor in [0.5, 1], so that several editors
that wait for one database do not knock together."""
_IDLE_S = 0.5
_GATHER_S = 0.1
"""A transaction waits so long for more records: the database's work comes after the answer that caused it, not beside it."""
_LOGGER = logging.getLogger(__name__)


class RecordStore(Protocol):
    """What the log needs of a database; `Repository` is one."""

    def append(self, records: Iterable[Record]) -> int: ...

    def close(self) -> None: ...


def open_repository(url: str) -> RecordStore:
    """The real database. SQLAlchemy is imported here, in the writer thread, and nowhere before."""
    from .repository import Repository

    return Repository(url)


class Log:
    """The durable log of one process; a `RecordSink`. At privacy level `off` it starts no thread and touches no file."""

    def __init__(
        self,
        settings: StoreSettings,
        *,
        clock: Clock,
        on_incident: Callable[[str, str], None] | None = None,
        open_store: Callable[[str], RecordStore] = open_repository,
    ) -> None:
        """`on_incident(code, sentence)` is called from the log's threads when something begins to fail or works again.

        Codes: `spool_failed`, `database_failed`, `database_recovered`, `record_damaged`.
        """
        self._settings = settings
        self._on_incident = on_incident
        self._open_store = open_store
        self._spool = Spool(settings.home / "spool", clock)
        self._store: RecordStore | None = None
        self._writer: threading.Thread | None = None
        self._adopted = threading.Event()
        self._closing = threading.Event()
        self._give_up_s = float("inf")
        self._lock = threading.Lock()
        self._committed = 0
        self._duplicates = 0
        self._damaged = 0
        self._database_error: str | None = None
        self._torn = 0
        self._spool_failing = False

    @property
    def _off(self) -> bool:
        return self._settings.privacy is Privacy.OFF

    def start(self) -> None:
        """Begin to accept. Starts two threads and returns; files and libraries are touched by them alone."""
        if self._off:
            return
        self._spool.start()
        self._writer = threading.Thread(target=self._run, name="coderl-writer", daemon=True)
        self._writer.start()

    def append(self, *records: Record) -> None:
        """Return once the records are safe (one `fsync`: some milliseconds). Raises `SpoolError` or `RecordError`."""
        self.submit(*records).result()

    def submit(self, *records: Record) -> Future[None]:
        """Never blocks; the future resolves once the records are safe, or carries `SpoolError` or `RecordError`.

        A callback on the future runs in the spool thread: keep it short.
        """
        admitted = [kept for record in records if (kept := admit(record, self._settings.privacy)) is not None]
        if not admitted:
            done: Future[None] = Future()
            done.set_result(None)
            return done
        future = self._spool.submit(admitted)
        future.add_done_callback(self._watch_spool)
        return future

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything submitted or adopted so far is committed; False if that took longer."""
        if self._writer is None:
            return True
        give_up_s = time.monotonic() + timeout_s
        return self._adopted.wait(timeout_s) and self._spool.wait_settled(max(0.0, give_up_s - time.monotonic()))

    def close(self, timeout_s: float) -> None:
        """Accept nothing more, commit what can be committed within `timeout_s`; the rest is replayed at the next start."""
        if self._writer is None:
            return
        self._give_up_s = time.monotonic() + timeout_s
        self._spool.stop()
        self._closing.set()
        self._writer.join(timeout_s)  # where a statement still runs, the thread ends by itself after it

    def health(self) -> LogHealth:
        """The state now; cheap."""
        pending = self._spool.pending
        with self._lock:
            error = self._spool.last_error or self._database_error
            return LogHealth(pending, self._committed, self._duplicates, self._damaged, error, self._torn)

    # The writer thread.

    def _run(self) -> None:
        try:
            self._empty_spool()
        finally:
            self._close_store()
            self._spool.close(LONGEST_RETRY_S)

    def _empty_spool(self) -> None:
        try:
            self._spool.adopt()
        except SpoolError as error:
            self._tell("spool_failed", str(error))
        self._adopted.set()
        retry_s = FIRST_RETRY_S
        while True:
            batch = self._spool.next_batch(BATCH_RECORDS, _IDLE_S, _GATHER_S)
            if batch is None and self._closing.is_set():
                break
            if batch is not None:
                if self._try_commit(batch):
                    retry_s = FIRST_RETRY_S
                else:
                    self._pause(retry_s * random.uniform(0.5, 1.0))
                    retry_s = min(2 * retry_s, LONGEST_RETRY_S)
            if time.monotonic() > self._give_up_s:
                break

    def _pause(self, seconds: float) -> None:
        if self._closing.is_set():
            time.sleep(FIRST_RETRY_S)
        else:
            self._closing.wait(seconds)

    def _try_commit(self, batch: Batch) -> bool:
        try:
            self._commit(batch)
        except (DatabaseError, SettingsError, SpoolError) as error:
            self._failed(str(error))
        except Exception as error:  # a bug must not end the only thread that empties the spool
            _LOGGER.exception("The log's writer failed in a way it does not know.")
            self._failed(
                f"The log's writer failed in a way it does not know ({type(error).__name__}); records wait in the spool."
            )
        else:
            self._worked()
            return True
        self._close_store()
        return False

    def _commit(self, batch: Batch) -> None:
        """Store a batch and let go of it. Whatever raises on the way leaves it to be tried again, which doubles nothing."""
        readable: list[tuple[Line, Record]] = []
        refused: list[tuple[Line, str]] = []
        for line in batch.lines:
            try:
                record = line.record or admit(decode(unframe(line.raw)), self._settings.privacy)  # in memory = admitted here
            except RecordError as error:
                refused.append((line, str(error)))
            else:
                if record is not None:  # an adopted line may have been written at a higher level: this level is the limit
                    readable.append((line, record))
        new, rejected = self._insert(readable)
        aside = [(self._spool.set_aside(batch.segment, line), why) for line, why in refused + rejected]
        with self._lock:
            self._committed += new
            self._duplicates += len(readable) - len(rejected) - new
            self._damaged += len(aside)
            self._torn += batch.torn
        self._spool.settle(batch)
        for path, why in aside:
            self._tell("record_damaged", f"{why} It was set aside as {path}.")

    def _insert(self, lines: Sequence[tuple[Line, Record]]) -> tuple[int, list[tuple[Line, str]]]:
        """How many rows were new, and the lines whose content the database refused (found by halving)."""
        if not lines:
            return 0, []
        if self._store is None:
            self._store = self._open_store(self._settings.database_url)
        try:
            return self._store.append([record for _, record in lines]), []
        except RecordError as error:
            if len(lines) == 1:
                return 0, [(lines[0][0], str(error))]
        middle = len(lines) // 2
        new_left, refused_left = self._insert(lines[:middle])
        new_right, refused_right = self._insert(lines[middle:])
        return new_left + new_right, refused_left + refused_right

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    # Telling.

    def _failed(self, sentence: str) -> None:
        with self._lock:
            first = self._database_error is None
            self._database_error = sentence
        if first:
            self._tell("database_failed", sentence)

    def _worked(self) -> None:
        with self._lock:
            recovered = self._database_error is not None
            self._database_error = None
        if recovered:
            self._tell("database_recovered", "The database takes records again.")

    def _watch_spool(self, future: Future[None]) -> None:
        error = future.exception()
        if error is None:
            self._spool_failing = False
        elif isinstance(error, SpoolError) and not self._spool_failing:
            self._spool_failing = True
            self._tell("spool_failed", str(error))

    def _tell(self, code: str, sentence: str) -> None:
        if self._on_incident is None:
            return
        try:
            self._on_incident(code, sentence)
        except Exception:  # whoever listens must not stop the log
            _LOGGER.exception("A listener of the log failed on %s.", code)
