"""One file of the spool: lines that are safe once `write` has returned.

A line is `crc32 SPACE json NEWLINE`, the checksum (CRC-32 of ISO 3309, `zlib.crc32`) as eight hex digits over the JSON bytes.
A file that ends without a newline has a torn tail: it was cut while being written, before anybody was told that it is safe.
A complete line whose checksum does not fit is damage, and is handed out as such instead of being skipped.

The process that writes a segment holds an exclusive `flock` on it for life; the kernel lets go of it when the process dies,
however it dies, and that is how a segment is known to be an orphan. Not covered: file systems whose `flock` is only local (some
network mounts) need one home folder per machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import RecordError
from .records import Record

SUFFIX = ".jsonl"
REMEMBERED_BYTES = 1024 * 1024
"""Lines of about so many bytes are kept as records too, so that who takes them at once need not read them again."""
_READ_BYTES = 256 * 1024


def frame(line: str) -> bytes:
    """The bytes of one line in a segment."""
    body = line.encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def unframe(raw: bytes) -> str:
    """The JSON of one line (without its newline). Raises `RecordError` where the checksum does not fit."""
    head, body = raw[:9], raw[9:]
    if head != b"%08x " % zlib.crc32(body):
        raise RecordError("The checksum of a spooled line does not fit: the file was damaged.")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise RecordError("A spooled line is not text.") from error


@dataclass(frozen=True, slots=True)
class Line:
    """One complete line, readable or not."""

    offset: int
    raw: bytes
    """Without the newline."""
    record: Record | None = None
    """What it was made from, where that is still in memory: it need not be read again."""


class Segment:
    """An open, locked segment. Written by one thread and read by one other; `durable` is what passes between them."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self.durable = size
        """Bytes from the start that are safe."""
        self.settled = 0
        """Bytes from the start that are in the database or set aside."""
        self.sealed = False
        """True: nothing will be written to it any more."""
        self.pending = 0
        """Complete lines between `settled` and `durable`."""
        self._recent: dict[int, Record] = {}
        """Offset → what the line there was made from, for the first `REMEMBERED_BYTES` that are not settled."""
        self._remembered = 0

    @classmethod
    def create(cls, path: Path) -> Segment:
        """A new, empty segment, locked before it has its name, so that nobody takes it for an orphan. Raises `OSError`."""
        draft = path.with_suffix(".new")
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.rename(path)
            sync_directory(path.parent)
        except BaseException:
            os.close(descriptor)
            draft.unlink(missing_ok=True)
            raise
        return cls(path, descriptor, 0)

    @classmethod
    def adopt(cls, path: Path) -> Segment | None:
        """The segment of a dead process, sealed; None while its process lives or another one adopted it. Raises `OSError`."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        status = os.fstat(descriptor)
        if status.st_nlink == 0:  # committed and removed by another process between our open and our lock
            os.close(descriptor)
            return None
        segment = cls(path, descriptor, status.st_size)
        segment.sealed = True
        segment.pending = segment.count()
        return segment

    @property
    def gone(self) -> bool:
        """True where the file lost its name (somebody deleted it): what is written now would not survive a crash."""
        return os.fstat(self._descriptor).st_nlink == 0

    @property
    def finished(self) -> bool:
        """True where every byte is settled and none will follow."""
        return self.sealed and self.settled >= self.durable

    def write(self, data: bytes) -> None:
        """Put whole lines after `durable` and make them safe; `publish` then shows them to the reader.

        On failure raises `OSError`, and the file ends where it ended before.

        After a failed `fsync` the kernel may take pages for clean which never reached the disk, so the segment is sealed and
        the next write needs a new one. Lines of a failed write may nevertheless be found after a crash: they were not
        acknowledged, and if they are appended again they carry the same ids.
        """
        start, written, view = self.durable, 0, memoryview(data)
        try:
            while written < len(view):
                written += os.pwrite(self._descriptor, view[written:], start + written)
        except OSError:
            self._cut(start)
            raise
        try:
            os.fsync(self._descriptor)
        except OSError:
            self.sealed = True
            self._cut(start)
            raise

    def publish(self, lines: Sequence[tuple[bytes, Record]]) -> None:
        """Count what `write` made safe: the lines with what they were made from."""
        for data, record in lines:
            if self._remembered + len(data) <= REMEMBERED_BYTES:
                self._recent[self.durable] = record
                self._remembered += len(data)
            self.durable += len(data)
        self.pending += len(lines)

    def forget(self, end: int | None = None) -> None:
        """Let go of what lines before the offset were made from; of all without one."""
        for offset in [offset for offset in self._recent if end is None or offset < end]:
            del self._recent[offset]
        if not self._recent:
            self._remembered = 0

    def read(self, limit: int) -> tuple[list[Line], int, bool]:
        """Up to `limit` complete lines from `settled` on, where the file is settled with them, and whether a torn tail follows.

        Only bytes below `durable` are looked at. The offset takes a torn tail in: it is nothing to wait for.
        """
        lines: list[Line] = []
        offset = position = self.settled
        end, rest, cut = self.durable, b"", False
        while len(lines) < limit and position < end and not cut:
            chunk = os.pread(self._descriptor, min(_READ_BYTES, end - position), position)
            cut = not chunk  # somebody shortened the file: what is gone cannot be waited for
            position += len(chunk)
            *complete, rest = (rest + chunk).split(b"\n")
            for raw in complete[: limit - len(lines)]:
                lines.append(Line(offset, raw, self._recent.get(offset)))
                offset += len(raw) + 1
        if (cut or position >= end) and offset + len(rest) >= position:
            return lines, end, cut or bool(rest)
        return lines, offset, False

    def count(self) -> int:
        """How many complete lines the file holds. Raises `OSError`."""
        lines = position = 0
        while chunk := os.pread(self._descriptor, _READ_BYTES, position):
            lines += chunk.count(b"\n")
            position += len(chunk)
        return lines

    def release(self) -> None:
        """Let go of the lock. The file stays, for the next process."""
        os.close(self._descriptor)

    def remove(self) -> None:
        """Delete the file, then let go of the lock. A file that cannot be deleted is replayed later, which doubles nothing."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(self._descriptor)

    def _cut(self, size: int) -> None:
        try:
            os.ftruncate(self._descriptor, size)
        except OSError:
            self.sealed = True  # a stale tail may stay behind: write elsewhere from now on


def sync_directory(directory: Path) -> None:
    """Make new and removed names in a directory survive a power cut. Raises `OSError`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
