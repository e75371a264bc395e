from __future__ import annotations

import contextlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import event

from coderl_store.clock import SystemClock, utc
from coderl_store.codec import encode
from coderl_store.errors import SpoolError
from coderl_store.home import StoreSettings
from coderl_store.log import Log
from coderl_store.memory import MemoryLog
from coderl_store.records import Privacy, Record, Survival
from coderl_store.repository import Repository
from coderl_store.segment import frame
from coderl_store.sink import RecordSink


@contextlib.contextmanager
def running(settings: StoreSettings, incidents: list[tuple[str, str]] | None = None, **options: Callable) -> Iterator[Log]:
    told = None if incidents is None else lambda code, sentence: incidents.append((code, sentence))
    log = Log(settings, clock=SystemClock(), on_incident=told, **options)
    log.start()
    try:
        yield log
    finally:
        log.close(20)


def eventually(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_s, "it did not happen"
        time.sleep(0.01)


def stored(settings: StoreSettings) -> list[str]:
    """The ids of all survival rows."""
    repository = Repository(settings.database_url)
    try:
        return [record.id for record in repository.stream(Survival)]
    finally:
        repository.close()


def last_error(log: Log) -> str:
    return log.health().last_error or ""


def test_what_is_appended_is_in_the_database(settings: StoreSettings, make) -> None:
    session = make.session()
    records = (session, *make.request(session))
    with running(settings) as log:
        log.append(*records)
        assert log.flush(20)
        assert replace(log.health()) == log.health()
        health = log.health()
        assert (health.pending, health.committed, health.duplicates, health.last_error) == (0, len(records), 0, None)
        repository = Repository(settings.database_url)
        (request,) = repository.requests()
        assert request.context == records[1]
        repository.close()
    assert list((settings.home / "spool").iterdir()) == []


def test_the_same_record_twice_is_one_row(settings: StoreSettings, make) -> None:
    record = make.survival()
    with running(settings) as log:
        log.append(record, record)
        log.append(record)
        assert log.flush(20)
        assert (log.health().committed, log.health().duplicates) == (1, 2)
    assert stored(settings) == [record.id]


def test_close_commits_what_was_submitted(settings: StoreSettings, make) -> None:
    log = Log(settings, clock=SystemClock())
    log.start()
    records = [make.survival() for _ in range(700)]
    futures = [log.submit(record) for record in records]
    log.close(20)
    assert all(future.exception(0) is None for future in futures)
    assert stored(settings) == [record.id for record in records]
    with pytest.raises(SpoolError, match="is closed"):
        log.append(make.survival())
    log.close(1)


def test_before_start_nothing_is_taken_and_closing_is_harmless(settings: StoreSettings, make) -> None:
    log = Log(settings, clock=SystemClock())
    assert isinstance(log.submit(make.survival()).exception(0), SpoolError)
    assert log.flush(1)
    log.close(1)
    assert list(settings.home.iterdir()) == []


def test_starting_imports_no_database_library_and_writes_nothing(tmp_path: Path) -> None:
    code = """
import sys, threading, time
from pathlib import Path
from coderl_store import Log, StoreSettings, SystemClock
home = Path(sys.argv[1])
log = Log(StoreSettings(home, f"sqlite:///{home}/log.db"), clock=SystemClock())
log.start()
assert log.flush(10) and "sqlalchemy" not in sys.modules and not list(home.iterdir())
log.close(5)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


# Outages of the database: appends go on, health says why, everything arrives after the cure.


def test_locked(settings: StoreSettings, make) -> None:
    incidents: list[tuple[str, str]] = []
    Repository(settings.database_url).close()
    records = [make.survival() for _ in range(5)]
    with (
        running(settings, incidents) as log,
        contextlib.closing(sqlite3.connect(settings.home / "coderl.db", isolation_level=None)) as other,
    ):
        other.execute("BEGIN EXCLUSIVE")
        log.append(records[0])
        eventually(lambda: "is locked by another program" in last_error(log))
        for record in records[1:]:
            log.append(record)
        assert not log.flush(0.05)
        assert log.health().pending == 5
        other.execute("ROLLBACK")
        assert log.flush(20)
        assert log.health().last_error is None
    assert stored(settings) == [record.id for record in records]
    assert [code for code, _ in incidents] == ["database_failed", "database_recovered"]


def test_folder_missing(settings: StoreSettings, make) -> None:
    settings = replace(settings, database_url=f"sqlite:///{settings.home / 'elsewhere' / 'log.db'}")
    records = [make.survival() for _ in range(3)]
    with running(settings) as log:
        for record in records:
            log.append(record)
        eventually(lambda: "check that its folder exists" in last_error(log))
        (settings.home / "elsewhere").mkdir()
        assert log.flush(20)
    assert stored(settings) == [record.id for record in records]


def test_not_a_database(settings: StoreSettings, make) -> None:
    (settings.home / "coderl.db").write_bytes(b"a poem, not a database. " * 300)
    record = make.survival()
    with running(settings) as log:
        log.append(record)
        eventually(lambda: "is not a database" in last_error(log))
        (settings.home / "coderl.db").rename(settings.home / "poem")
        assert log.flush(20)
    assert stored(settings) == [record.id]
    assert (settings.home / "poem").read_bytes().startswith(b"a poem")


def test_full(settings: StoreSettings, make) -> None:
    """SQLite's own page limit stands in for the disk."""
    Repository(settings.database_url).close()
    limit = ["PRAGMA max_page_count = 1"]  # SQLite takes at least the present size

    def limited(url: str) -> Repository:
        repository = Repository(url)
        repository.engine.dispose()
        event.listen(repository.engine, "connect", lambda connection, _: [connection.execute(pragma) for pragma in limit])
        return repository

    records = [make.incident("x" * 5000) for _ in range(20)]
    with running(settings, open_store=limited) as log:
        for record in records:
            log.append(record)
        eventually(lambda: "has no room left" in last_error(log))
        assert log.health().pending > 0
        limit.clear()
        assert log.flush(20)
        assert (log.health().committed, log.health().duplicates) == (20, 0)


def test_deleted_while_in_use(settings: StoreSettings, make) -> None:
    incidents: list[tuple[str, str]] = []
    first, second = make.survival(), make.survival()
    with running(settings, incidents) as log:
        log.append(first)
        assert log.flush(20)
        for path in settings.home.glob("coderl.db*"):
            path.unlink()
        log.append(second)
        assert log.flush(20)
    assert stored(settings) == [second.id]  # the first went with the file; the second did not go into the void
    assert "was deleted while in use" in incidents[0][1]


READ_ONLY = """
import os, sys, time
from pathlib import Path
import alembic.command, coderl_store.repository
from coderl_store import Log, StoreSettings, SystemClock
from coderl_store.clock import utc
from coderl_store.records import Privacy, Survival
home = Path(sys.argv[1])
database = home / "log.db"
coderl_store.repository.Repository(f"sqlite:///{database}").close()
if os.getuid() == 0:  # permissions mean nothing to root
    for path in (home, database):
        os.chown(path, 65534, 65534)
    os.setuid(65534)
os.chmod(database, 0o400)
log = Log(StoreSettings(home, f"sqlite:///{database}"), clock=SystemClock())
log.start()
log.append(Survival("r", utc(0.0), "s", "g", 15.0, 0.5))
give_up = time.monotonic() + 20
while "is read-only" not in (log.health().last_error or ""):
    assert time.monotonic() < give_up, log.health()
    time.sleep(0.01)
os.chmod(database, 0o600)
assert log.flush(20), log.health()
assert log.health().committed == 1
log.close(5)
"""


def test_read_only() -> None:
    folder = Path(tempfile.mkdtemp())  # not under tmp_path, whose parents are closed to other users
    try:
        subprocess.run([sys.executable, "-c", READ_ONLY, str(folder)], check=True)
    finally:
        shutil.rmtree(folder)


def test_a_lost_spool_is_told_once_per_outage(settings: StoreSettings, make) -> None:
    incidents: list[tuple[str, str]] = []
    (settings.home / "spool").write_text("in the way")
    with running(settings, incidents) as log:
        for _ in range(2):
            with pytest.raises(SpoolError, match="nothing was recorded"):
                log.append(make.survival())
        assert "cannot be written" in last_error(log)
        (settings.home / "spool").unlink()
        log.append(make.survival())
        assert log.health().last_error is None
    assert [code for code, _ in incidents] == ["spool_failed"]


# What cannot be stored.


def test_damaged_lines_are_set_aside_and_told(settings: StoreSettings, make) -> None:
    incidents: list[tuple[str, str]] = []
    records = [make.survival() for _ in range(3)]
    good = [frame(encode(record)) for record in records]
    future = b'{"record":"poem","schema":1,"fields":{}}'
    bad = [b"deadbeef " + future, frame(future.decode())[:-1]]
    (settings.home / "spool").mkdir()
    content = good[0] + bad[0] + b"\n" + good[1] + bad[1] + b"\n" + good[2] + b"0000 torn"
    (settings.home / "spool" / "dead.jsonl").write_bytes(content)
    with running(settings, incidents) as log:
        assert log.flush(20)
        health = log.health()
        assert (health.committed, health.damaged, health.torn, health.pending) == (3, 2, 1, 0)
        assert health.last_error is None
    assert sorted(path.read_bytes() for path in (settings.home / "spool" / "damaged").iterdir()) == sorted(
        line + b"\n" for line in bad
    )
    assert [code for code, _ in incidents] == ["record_damaged"] * 2
    assert "checksum" in incidents[0][1]
    assert "unknown record type" in incidents[1][1]
    assert stored(settings) == [record.id for record in records]


def test_a_row_that_the_database_refuses_harms_no_other(settings: StoreSettings, make) -> None:
    repository = Repository(settings.database_url)
    with repository.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON survivals WHEN NEW.share > 0.5 BEGIN SELECT RAISE(ABORT, 'too good'); END"
        )
    repository.close()
    incidents: list[tuple[str, str]] = []
    records = [make.survival(0.9 if index in (7, 8, 30) else 0.1) for index in range(40)]
    with running(settings, incidents) as log:
        log.append(*records)
        assert log.flush(20)
        assert (log.health().committed, log.health().damaged, log.health().duplicates) == (37, 3, 0)
    assert stored(settings) == [record.id for record in records if record.share < 0.5]
    assert Counter(code for code, _ in incidents) == {"record_damaged": 3}
    assert all("too good" in sentence for _, sentence in incidents)


class Forgetful:
    """A store with a bug: it fails in a way nobody foresaw, twice, then works."""

    def __init__(self) -> None:
        self.calls = 0
        self.kept: list[Record] = []

    def append(self, records: Iterable[Record]) -> int:
        self.calls += 1
        if self.calls <= 2:
            raise ZeroDivisionError
        self.kept += records
        return len(self.kept)

    def close(self) -> None:
        pass


def test_an_unforeseen_failure_does_not_end_the_writer(settings: StoreSettings, make, caplog: pytest.LogCaptureFixture) -> None:
    store = Forgetful()
    record = make.survival()

    def broken_listener(code: str, sentence: str) -> None:
        raise RuntimeError(code)

    log = Log(settings, clock=SystemClock(), on_incident=broken_listener, open_store=lambda url: store)
    log.start()
    log.append(record)
    assert log.flush(20)
    log.close(5)
    assert store.kept == [record]
    assert "ZeroDivisionError" in caplog.text
    assert "A listener of the log failed on database_failed" in caplog.text


# Death and replay.


@given(cuts=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=4), count=st.integers(1, 12))
@examples(deadline=None, max_examples=15)
def test_replay_is_idempotent(cuts: list[float], count: int) -> None:
    """A segment replayed from any prefix, any number of times, in any order: what its longest prefix held, exactly once."""
    records: list[Record] = [Survival(f"r{index:02}", utc(1e9 + index), "s", "g", 15.0, 0.5) for index in range(count)]
    content = b"".join(frame(encode(record)) for record in records)
    with tempfile.TemporaryDirectory() as folder:
        settings = StoreSettings(Path(folder), f"sqlite:///{folder}/log.db", Privacy.CODE)
        (settings.home / "spool").mkdir()
        lengths = [round(cut * len(content)) for cut in cuts]
        for length in lengths:
            (settings.home / "spool" / "dead.jsonl").write_bytes(content[:length])
            with running(settings) as log:
                assert log.flush(20)
        assert stored(settings) == [record.id for record in records[: content[: max(lengths)].count(b"\n")]]


CHILD = """
import os, sys
from pathlib import Path
from coderl_store import IdSource, Log, StoreSettings, SystemClock
from coderl_store.clock import utc
from coderl_store.records import Privacy, Survival
home, count = Path(sys.argv[1]), int(sys.argv[2])
clock = SystemClock()
ids = IdSource(clock)
log = Log(StoreSettings(home, f"sqlite:///{home}/coderl.db", Privacy.CODE), clock=clock)
log.start()
for _ in range(count):
    record = Survival(ids.new(), utc(clock.now_s()), "s", "g", 15.0, 0.5)
    log.append(record)
    os.write(1, (record.id + "\\n").encode())
log.close(20)
"""


def child(settings: StoreSettings, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(settings.home), str(count)], stdout=subprocess.PIPE)


def test_kill_9_loses_nothing_acknowledged_and_doubles_nothing(settings: StoreSettings) -> None:
    rng = random.Random(20)
    acknowledged: list[bytes] = []
    for _ in range(20):
        process = child(settings, 1_000_000)
        assert process.stdout is not None
        acknowledged.append(process.stdout.readline().strip())
        time.sleep(rng.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        process.wait()
        process.stdout.close()
        acknowledged += rest[: rest.rfind(b"\n") + 1].split()
    with running(settings) as log:
        assert log.flush(30)
        assert log.health().damaged == 0
    found = Counter(stored(settings))
    assert len(acknowledged) > 100
    assert set(found) >= {name.decode() for name in acknowledged}
    assert set(found.values()) == {1}
    assert list((settings.home / "spool").glob("*.jsonl")) == []


def test_two_processes_share_one_home(settings: StoreSettings) -> None:
    children = [child(settings, 150) for _ in range(2)]
    acknowledged = [name for process in children for name in process.communicate()[0].split()]
    assert [process.returncode for process in children] == [0, 0]
    assert Counter(stored(settings)) == Counter(name.decode() for name in acknowledged)
    assert len(acknowledged) == 300


# The double.


def test_both_logs_are_record_sinks(settings: StoreSettings) -> None:
    assert isinstance(Log(settings, clock=SystemClock()), RecordSink)
    assert isinstance(MemoryLog(), RecordSink)


def test_the_double_behaves_like_the_log(make) -> None:
    log = MemoryLog(Privacy.CODE)
    session = make.session()
    records = (session, *make.request(session))
    log.append(*records)
    log.append(session)
    assert log.records == records
    assert (log.health().committed, log.health().duplicates) == (len(records), 1)
    assert log.submit(make.survival(float("nan"))).exception() is not None
    log.failing = True
    assert isinstance(log.submit(make.survival()).exception(), SpoolError)
    assert "cannot be written" in (log.health().last_error or "")
    log.failing = False
    log.append(make.survival())
    assert log.flush(0)
    log.close(0)
