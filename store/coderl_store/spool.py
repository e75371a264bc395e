"""The durable spool: where a record is safe long before any database has seen it.

`submit` hands lines to one thread, which writes everything that is queued with one `fsync` (group commit: DeWitt et al.,
*Implementation techniques for main memory database systems*, SIGMOD 1984) and then resolves the futures. `next_batch` and
`settle` are the other end: the log's writer takes what is safe, oldest segment first, and says when it need not be kept any
longer.

Covered: a process killed at any moment, a power cut (as far as the disk honours `fsync`), a full disk and a missing folder
(the future carries `SpoolError`; later appends work again once there is room), a spool folder deleted while in use (noticed
before the next write). Not covered: a disk that acknowledges `fsync` without writing, `fork` without `exec`, and several
records as one unit: a cut between two records of one `submit` keeps the first.

Only the standard library and orjson are imported here: this is what the language server pays for at start.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from .clock import Clock
from .codec import encode
from .errors import RecordError, SpoolError
from .ids import IdSource
from .records import Record
from .segment import SUFFIX, Line, Segment, frame, sync_directory

SEGMENT_BYTES = 4 * 1024 * 1024
"""A segment is closed above this size, so that it can be deleted, and so that a crash replays at most this much."""
DRAFT_AGE_S = 86_400.0
"""A segment that is still being created after a day belongs to a process that died between two system calls."""
GROUP_BYTES = 1024 * 1024
"""At most about this much is written with one `fsync`, so that nobody waits for a long queue behind them."""
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    lines: Sequence[tuple[bytes, Record]]
    future: Future[None]

    @property
    def data(self) -> bytes:
        return b"".join(line for line, _ in self.lines)

    @property
    def size(self) -> int:
        return sum(len(line) for line, _ in self.lines)


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines of one segment that are safe and not yet settled."""

    segment: Segment
    lines: Sequence[Line]
    end: int
    """Offset up to which the segment is settled once these lines are."""
    torn: bool
    """A torn tail followed: dropped, nobody was ever told that it is safe."""


class Spool:
    """A folder of segments. `start`, then `submit`/`append` from any thread; one thread calls `next_batch` and `settle`."""

    def __init__(self, directory: Path, clock: Clock, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._directory = directory
        self._clock = clock
        self._ids = IdSource(clock)
        self._segment_bytes = segment_bytes
        self._changed = threading.Condition()
        self._queue: deque[_Entry] = deque()
        self._segments: deque[Segment] = deque()
        self._active: Segment | None = None
        self._accepting = False
        self._thread: threading.Thread | None = None
        self._submitted = 0
        self._resolved = 0
        self._waiting = 0
        self._last_error: str | None = None

    def start(self) -> None:
        """Begin to accept. Touches no file: the folder and the segment are made with the first append."""
        with self._changed:
            if self._thread is not None:
                raise RuntimeError("A spool is started once.")
            self._accepting = True
            self._thread = threading.Thread(target=self._run, name="coderl-spool", daemon=True)
            self._thread.start()

    def submit(self, records: Sequence[Record]) -> Future[None]:
        """Queue the records; the future resolves when they are safe, or carries `SpoolError` or `RecordError`. Never blocks."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # what is queued is written: it cannot be cancelled
        try:
            lines = [(frame(encode(record)), record) for record in records]
        except RecordError as error:
            future.set_exception(error)
            return future
        with self._changed:
            if self._accepting:
                self._submitted += 1
                self._queue.append(_Entry(lines, future))
                self._changed.notify_all()
                return future
        future.set_exception(SpoolError("The log is closed: the record was not taken."))
        return future

    def append(self, records: Sequence[Record]) -> None:
        """Return once the records are safe. Raises `SpoolError` or `RecordError`; then they were not acknowledged."""
        self.submit(records).result()

    @property
    def pending(self) -> int:
        """Lines that are safe and not settled."""
        with self._changed:
            return sum(segment.pending for segment in self._segments)

    @property
    def last_error(self) -> str | None:
        """Why the last write failed; None once one has succeeded."""
        with self._changed:
            return self._last_error

    def adopt(self) -> int:
        """Take over the segments of dead processes; how many. Raises `SpoolError` where the folder cannot be read."""
        adopted: list[Segment] = []
        try:
            self._clear_drafts()
            for path in sorted(self._directory.glob(f"*{SUFFIX}")):
                segment = Segment.adopt(path)
                if segment is not None:
                    adopted.append(segment)
        except OSError as error:
            for segment in adopted:
                segment.release()
            raise SpoolError(f"The spool folder {self._directory} cannot be read ({error.strerror}).") from error
        with self._changed:
            self._segments.extendleft(reversed(adopted))
            self._sweep()
            self._changed.notify_all()
        return len(adopted)

    def next_batch(self, limit: int, timeout_s: float, gather_s: float = 0.0) -> Batch | None:
        """Up to `limit` safe lines of the oldest segment that has any; None if none came within `timeout_s`.

        Once a line is there, `gather_s` are spent on waiting for others, unless somebody waits in `wait_settled`. After
        `stop` it does not wait for what cannot come any more. Settles nothing.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._oldest() is not None or self._finished(), timeout_s)
            if gather_s and self._oldest() is not None:
                self._changed.wait_for(lambda: self._pressed(limit), gather_s)
            segment = self._oldest()
        if segment is None:
            return None
        lines, end, torn = segment.read(limit)
        return Batch(segment, lines, end, torn)

    def settle(self, batch: Batch) -> None:
        """The batch need not be kept any longer: its records are in the database, or set aside."""
        with self._changed:
            segment = batch.segment
            segment.settled = batch.end
            segment.forget(batch.end)
            segment.pending = segment.pending - len(batch.lines) if segment.settled < segment.durable else 0
            self._sweep()
            self._changed.notify_all()

    def set_aside(self, segment: Segment, line: Line) -> Path:
        """Keep a line that cannot be used in `damaged/`, one file per line, under the same name however often it is tried."""
        folder = self._directory / "damaged"
        path = folder / f"{segment.path.stem}-{line.offset}.line"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            with path.open("wb") as file:
                file.write(line.raw + b"\n")
                file.flush()
                os.fsync(file.fileno())
            sync_directory(folder)
        except OSError as error:
            raise SpoolError(f"A damaged line cannot be set aside in {folder} ({error.strerror}).") from error
        return path

    def wait_settled(self, timeout_s: float) -> bool:
        """Wait until everything that was submitted before this call is settled; False if that took longer."""
        give_up_s = time.monotonic() + timeout_s
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            try:
                goal = self._submitted
                if not self._changed.wait_for(lambda: self._resolved >= goal, timeout_s):
                    return False
                goals = [(segment, segment.durable) for segment in self._segments]
                return self._changed.wait_for(
                    lambda: all(segment.settled >= durable for segment, durable in goals), give_up_s - time.monotonic()
                )
            finally:
                self._waiting -= 1

    def close(self, timeout_s: float) -> None:
        """Accept nothing more, write what is queued, delete what is settled, leave the rest unlocked for the next process.

        Where the disk does not answer within `timeout_s` the segments stay locked until the process ends.
        """
        self.stop()
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return
        with self._changed:
            if self._active is not None:
                self._active.sealed = True
                self._active = None
            self._sweep()
            while self._segments:
                self._segments.popleft().release()

    def stop(self) -> None:
        """Accept nothing more; what is queued is still written."""
        with self._changed:
            self._accepting = False
            self._changed.notify_all()

    # The spool thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or not self._accepting)
                group = self._take_group()
            if not group:
                return
            try:
                self._write(group)
            except Exception as error:  # a bug must not leave the callers waiting for ever
                _LOGGER.exception("The spool failed in a way it does not know.")
                self._resolve(group, SpoolError(f"The spool failed in a way it does not know ({type(error).__name__})."))

    def _take_group(self) -> list[_Entry]:
        group: list[_Entry] = []
        size = 0
        while self._queue and (not group or size + self._queue[0].size <= GROUP_BYTES):
            group.append(self._queue.popleft())
            size += group[-1].size
        return group

    def _write(self, group: Sequence[_Entry]) -> None:
        """Make the group safe with one fsync; where that fails, each entry by itself, so that one cannot fail another."""
        data = b"".join(entry.data for entry in group)
        error: SpoolError | None = None
        try:
            if data:
                segment = self._writable()
                segment.write(data)
        except OSError as failure:
            if len(group) > 1:
                for entry in group:
                    self._write([entry])
                return
            error = SpoolError(f"The spool in {self._directory} cannot be written ({_cause(failure)}): nothing was recorded.")
        with self._changed:
            if data and error is None:
                segment.publish([line for entry in group for line in entry.lines])
        self._resolve(group, error)

    def _resolve(self, group: Sequence[_Entry], error: SpoolError | None) -> None:
        """Tell everybody who waits for the group."""
        with self._changed:
            waiting = [entry for entry in group if not entry.future.done()]
            self._last_error = None if error is None else str(error)
            self._resolved += len(waiting)
            self._changed.notify_all()
        for entry in waiting:
            if error is None:
                entry.future.set_result(None)
            else:
                entry.future.set_exception(error)

    def _writable(self) -> Segment:
        """The active segment, or a new one where it is full, unusable or deleted. Raises `OSError`."""
        active = self._active
        if active is not None and not active.sealed and active.durable < self._segment_bytes and not active.gone:
            return active
        with self._changed:
            self._active = None
            if active is not None:
                active.sealed = True
                active.forget()
                self._sweep()
        if not self._directory.is_dir():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(self._directory.parent)
        fresh = Segment.create(self._directory / f"{self._ids.new()}{SUFFIX}")
        with self._changed:
            self._active = fresh
            self._segments.append(fresh)
        return fresh

    # Under the lock.

    def _oldest(self) -> Segment | None:
        return next((segment for segment in self._segments if segment.settled < segment.durable), None)

    def _finished(self) -> bool:
        return not self._accepting and self._resolved >= self._submitted

    def _pressed(self, limit: int) -> bool:
        """Nothing is won by gathering more lines."""
        return not self._accepting or self._waiting > 0 or sum(segment.pending for segment in self._segments) >= limit

    def _sweep(self) -> None:
        """Delete the segments that are done with."""
        for segment in [segment for segment in self._segments if segment.finished]:
            self._segments.remove(segment)
            segment.remove()

    def _clear_drafts(self) -> None:
        """Segments that were never finished being created: empty, so only the name is in the way."""
        for draft in self._directory.glob("*.new"):
            if draft.stat().st_mtime < self._clock.now_s() - DRAFT_AGE_S:
                draft.unlink(missing_ok=True)


def _cause(failure: OSError) -> str:
    if failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "the disk is full or a size limit is reached"
    if failure.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "no permission to write there"
    return failure.strerror or type(failure).__name__
