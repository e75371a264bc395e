from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coderl_store.clock import SystemClock, VirtualClock, utc
from coderl_store.codec import decode, encode
from coderl_store.errors import RecordError, SpoolError
from coderl_store.records import Record, Survival
from coderl_store.segment import REMEMBERED_BYTES, Segment, frame, unframe
from coderl_store.spool import Spool


def survivals(count: int, prefix: str = "r") -> list[Record]:
    return [Survival(f"{prefix}{index}", utc(1e9 + index), "s", "g" * (index % 5), 15.0, 0.5) for index in range(count)]


def started(folder: Path, **options: int) -> Spool:
    spool = Spool(folder, SystemClock(), **options)
    spool.start()
    return spool


def drain(spool: Spool, limit: int = 3) -> tuple[list[Record], list[bytes], int]:
    """Everything that waits: records, raw lines that are damaged, torn tails. All of it is settled."""
    records: list[Record] = []
    damaged: list[bytes] = []
    torn = 0
    while (batch := spool.next_batch(limit, 0.0)) is not None:
        for line in batch.lines:
            try:
                records.append(decode(unframe(line.raw)))
            except RecordError:
                damaged.append(line.raw)
        torn += batch.torn
        spool.settle(batch)
    return records, damaged, torn


def adopted(folder: Path) -> tuple[list[Record], list[bytes], int]:
    """What a process that starts now finds."""
    spool = Spool(folder, SystemClock())
    spool.adopt()
    try:
        return drain(spool)
    finally:
        spool.close(1)


def test_what_was_appended_is_read_back_and_then_gone(tmp_path: Path) -> None:
    spool = started(tmp_path / "spool")
    spool.append(survivals(2))
    spool.append(survivals(3, "later"))
    assert spool.pending == 5
    assert drain(spool) == (survivals(2) + survivals(3, "later"), [], 0)
    assert spool.pending == 0
    spool.close(5)
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_batch_that_is_not_settled_comes_again(tmp_path: Path) -> None:
    spool = started(tmp_path)
    spool.append(survivals(4))
    first = spool.next_batch(3, 0.0)
    assert first is not None
    assert spool.next_batch(3, 0.0) == first
    spool.settle(first)
    assert drain(spool)[0] == survivals(4)[3:]
    spool.close(5)


def test_a_batch_gathers_until_it_is_full_somebody_waits_or_the_log_closes(tmp_path: Path) -> None:
    """An hour to gather in: it returns at once or the test does not end."""
    spool = started(tmp_path)
    spool.append(survivals(3))
    full = spool.next_batch(3, 0.0, 3600.0)
    assert full is not None
    assert len(full.lines) == 3
    waiting = threading.Thread(target=spool.wait_settled, args=(60.0,))
    waiting.start()
    assert spool.next_batch(100, 0.0, 3600.0) == full
    spool.settle(full)
    waiting.join()
    spool.append(survivals(1, "last"))
    spool.stop()
    assert drain(spool)[0] == survivals(1, "last")
    spool.close(5)


def test_a_batch_gathers_what_comes_meanwhile(tmp_path: Path) -> None:
    spool = started(tmp_path)
    spool.append(survivals(1))
    later = threading.Timer(0.05, spool.append, [survivals(2, "later")])
    later.start()
    batch = spool.next_batch(3, 0.0, 3600.0)
    assert batch is not None
    assert len(batch.lines) == 3
    spool.close(5)


def test_what_is_left_waits_for_the_next_process(tmp_path: Path) -> None:
    spool = started(tmp_path)
    spool.append(survivals(4))
    assert adopted(tmp_path) == ([], [], 0)  # its process lives: nobody takes it away
    spool.close(5)
    assert adopted(tmp_path)[0] == survivals(4)
    assert list(tmp_path.iterdir()) == []


@given(lengths=st.lists(st.integers(0, 400), max_size=8), data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_file_cut_at_any_byte_holds_exactly_what_was_acknowledged_before_the_cut(
    lengths: list[int], data: st.DataObject
) -> None:
    records: list[Record] = [Survival(f"r{n}", utc(1e9), "s", "g" * length, 1.0, 0.5) for n, length in enumerate(lengths)]
    frames = [frame(encode(record)) for record in records]
    content = b"".join(frames)
    cut = data.draw(st.integers(0, len(content)))
    ends = [len(b"".join(frames[: index + 1])) for index in range(len(frames))]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dead.jsonl").write_bytes(content[:cut])
        found, damaged, torn = adopted(Path(folder))
    assert found == [record for record, end in zip(records, ends, strict=True) if end <= cut]
    assert damaged == []
    assert torn == (cut not in {0, *ends})


@given(st.integers(1, 6), st.data())
@settings(deadline=None, max_examples=60)
def test_a_flipped_byte_harms_no_other_line_and_is_never_silent(count: int, data: st.DataObject) -> None:
    records = survivals(count)
    frames = [frame(encode(record)) for record in records]
    content = bytearray(b"".join(frames))
    position = data.draw(st.integers(0, len(content) - 2))  # the last newline makes a torn tail: another test
    content[position] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dead.jsonl").write_bytes(bytes(content))
        found, damaged, _ = adopted(Path(folder))
    assert damaged
    start = 0
    for record, line in zip(records, frames, strict=True):
        intact = not start <= position < start + len(line)
        after_a_lost_newline = position == start - 1
        assert (record in found) == (intact and not after_a_lost_newline)
        assert record in found or not intact or any(line.rstrip(b"\n") in raw for raw in damaged)
        start += len(line)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_stumble(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dead.jsonl").write_bytes(raw)
        found, damaged, torn = adopted(Path(folder))
    assert found == []
    assert len(damaged) == raw.count(b"\n")
    assert torn == (not raw.endswith(b"\n") and raw != b"")


@given(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])))
def test_framing_round_trips(line: str) -> None:
    raw = frame(line)
    assert raw.endswith(b"\n")
    assert unframe(raw[:-1]) == line


def test_futures_resolve_in_order_and_cannot_be_cancelled(tmp_path: Path) -> None:
    spool = started(tmp_path)
    order: list[int] = []
    futures = [spool.submit([record]) for record in survivals(50)]
    for index, future in enumerate(futures):
        future.add_done_callback(lambda _, index=index: order.append(index))
    assert not any(future.cancel() for future in futures)
    for future in futures:
        assert future.result(10) is None
    assert drain(spool)[0] == survivals(50)
    spool.close(5)


def test_many_threads_share_the_fsyncs(tmp_path: Path) -> None:
    spool = started(tmp_path)

    def work(name: str) -> None:
        for record in survivals(20, name):
            spool.append([record])

    threads = [threading.Thread(target=work, args=(f"{index}-",)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [record.id for record in drain(spool, 1000)[0]]
    for index in range(8):
        assert [name for name in found if name.startswith(f"{index}-")] == [f"{index}-{n}" for n in range(20)]
    assert len(found) == 160
    spool.close(5)


def test_segments_rotate_by_size_and_are_deleted_when_settled(tmp_path: Path) -> None:
    spool = started(tmp_path, segment_bytes=1000)
    for record in survivals(40):
        spool.append([record])
    files = sorted(tmp_path.glob("*.jsonl"))
    assert len(files) >= 5
    assert all(path.stat().st_size < 1200 for path in files)
    assert drain(spool)[0] == survivals(40)
    assert sorted(tmp_path.glob("*.jsonl")) in ([], files[-1:])
    spool.close(5)
    assert list(tmp_path.iterdir()) == []


def test_the_first_lines_are_handed_out_with_their_records_and_the_others_are_read(tmp_path: Path) -> None:
    spool = started(tmp_path)
    records = survivals(3 * REMEMBERED_BYTES // len(frame(encode(survivals(1)[0]))))
    spool.append(records)
    for kept in (True, False, True):  # a third is in memory; once all of it is settled there is room again
        remembered = 0
        while (batch := spool.next_batch(500, 0.0)) is not None:
            assert all(line.record in (None, decode(unframe(line.raw))) for line in batch.lines)
            remembered += sum(line.record is not None for line in batch.lines)
            spool.settle(batch)
            if remembered and batch.lines[-1].record is None and kept:
                break
        assert (remembered > 0) is kept
        if not kept:
            spool.append(survivals(10, "later"))
    spool.close(5)


def test_after_close_nothing_is_taken(tmp_path: Path) -> None:
    spool = started(tmp_path)
    spool.close(5)
    with pytest.raises(SpoolError, match="is closed"):
        spool.append(survivals(1))
    with pytest.raises(SpoolError, match="is closed"):
        Spool(tmp_path, SystemClock()).append(survivals(1))


def test_an_invalid_record_reaches_neither_file_nor_others(tmp_path: Path) -> None:
    spool = started(tmp_path)
    bad = Survival("bad", utc(0.0), "s", "g", 15.0, float("nan"))
    assert isinstance(spool.submit([*survivals(1), bad]).exception(5), RecordError)
    spool.append(survivals(1, "good"))
    assert drain(spool)[0] == survivals(1, "good")
    spool.close(5)


def test_a_folder_that_cannot_be_made_is_an_error_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in the way")
    spool = started(tmp_path / "spool")
    with pytest.raises(SpoolError, match="cannot be written"):
        spool.append(survivals(1))
    assert spool.last_error is not None
    (tmp_path / "spool").unlink()
    spool.append(survivals(1))
    assert spool.last_error is None
    assert drain(spool)[0] == survivals(1)
    spool.close(5)


def test_a_spool_folder_deleted_while_in_use_is_made_again(tmp_path: Path) -> None:
    spool = started(tmp_path / "spool")
    spool.append(survivals(1, "lost-"))
    next((tmp_path / "spool").iterdir()).unlink()
    (tmp_path / "spool").rmdir()
    spool.append(survivals(1, "kept-"))
    assert len(list((tmp_path / "spool").glob("*.jsonl"))) == 1
    assert drain(spool)[0] == survivals(1, "lost-") + survivals(1, "kept-")  # even the deleted file is still open
    spool.close(5)


def test_the_files_are_private(tmp_path: Path) -> None:
    spool = started(tmp_path / "spool")
    spool.append(survivals(1))
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "spool").iterdir())
    spool.close(5)


def test_a_line_is_set_aside_once_however_often(tmp_path: Path) -> None:
    (tmp_path / "dead.jsonl").write_bytes(b"damaged\n")
    spool = Spool(tmp_path, SystemClock())
    spool.adopt()
    batch = spool.next_batch(1, 0.0)
    assert batch is not None
    paths = {spool.set_aside(batch.segment, batch.lines[0]) for _ in range(3)}
    assert [path.read_bytes() for path in paths] == [b"damaged\n"]
    spool.close(1)
    assert (tmp_path / "dead.jsonl").exists()  # it was not settled


def test_leftovers_of_an_interrupted_creation_are_cleared_after_a_day(tmp_path: Path) -> None:
    (tmp_path / "old.new").touch()
    (tmp_path / "young.new").touch()
    now_s = 1_800_000_000.0
    os.utime(tmp_path / "old.new", (now_s - 90_000, now_s - 90_000))
    os.utime(tmp_path / "young.new", (now_s, now_s))
    spool = Spool(tmp_path, VirtualClock(now_s))
    spool.adopt()
    assert [path.name for path in tmp_path.iterdir()] == ["young.new"]
    spool.close(1)


def test_a_segment_belongs_to_one_process(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path / "one.jsonl")
    assert Segment.adopt(tmp_path / "one.jsonl") is None
    segment.release()
    again = Segment.adopt(tmp_path / "one.jsonl")
    assert again is not None
    assert Segment.adopt(tmp_path / "one.jsonl") is None
    again.remove()
    assert Segment.adopt(tmp_path / "one.jsonl") is None


FULL_DISK = """
import os, resource, sys
from pathlib import Path
from coderl_store.clock import SystemClock, utc
from coderl_store.errors import SpoolError
from coderl_store.records import Survival
from coderl_store.spool import Spool

spool = Spool(Path(sys.argv[1]), SystemClock())
spool.start()
acknowledged, refused = [], 0
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
for index in range(40):
    if index == 30:
        assert refused >= 5, refused
        assert spool.last_error and "the disk is full or a size limit is reached" in spool.last_error
        if sys.argv[2] == "die":
            print(*acknowledged, flush=True)
            os._exit(0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        spool.append([Survival(f"r{index}", utc(0.0), "s", "g" * 100, 15.0, 0.5)])
        acknowledged.append(f"r{index}")
    except SpoolError:
        refused += 1
assert spool.last_error is None
print(*acknowledged)
spool.close(5)
"""


@pytest.mark.parametrize("then", ["die", "recover"])
def test_a_full_disk_is_an_error_and_leaves_no_partial_line(tmp_path: Path, then: str) -> None:
    """The kernel's file size limit stands in for the disk: a write that crosses it is cut short, the next one fails."""
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path), then], capture_output=True, text=True, check=True)
    acknowledged = done.stdout.split()
    assert "r0" in acknowledged
    assert "r29" not in acknowledged
    assert acknowledged[-10:] == [f"r{index}" for index in range(30, 40)] or then == "die"
    found, damaged, torn = adopted(tmp_path)
    assert ([record.id for record in found], damaged, torn) == (acknowledged, [], 0)
