"""What became active when; and that a second opening of the database in one process costs nothing that is committed later."""

from __future__ import annotations

import subprocess
import sys

from coderl_store.clock import VirtualClock, utc
from coderl_store.home import StoreSettings
from coderl_store.ids import IdSource
from coderl_store.records import Session
from coderl_store.repository import Repository
from coderl_store.versions import Event, GeneratorVersion

COUNT = """
import sys
from coderl_store.records import Session
from coderl_store.repository import Repository
repository = Repository(sys.argv[1])
print(repository.count(Session))
repository.close()
"""


def counted_by_another_process(url: str) -> int:
    run = subprocess.run([sys.executable, "-c", COUNT, url], capture_output=True, text=True, timeout=60, check=True)
    return int(run.stdout)


def test_facts_come_back_in_order_and_are_never_changed(database_url: str) -> None:
    clock = VirtualClock()
    ids = IdSource(clock)
    first = GeneratorVersion(
        id=ids.new(),
        at=utc(clock.now_s()),
        event=Event.PROMOTED,
        generator_id="base-kept-1",
        kind="model",
        base="base",
        adapter="kept@1",
        sha256="0" * 64,
        size_bytes=2**40,
    )
    clock.advance_to(clock.now_s() + 1.0)
    second = GeneratorVersion(ids.new(), utc(clock.now_s()), Event.ROLLED_BACK, "base", "embedded", "base-kept-1")
    repository = Repository(database_url)
    try:
        for version in (second, first, second):
            repository.add_version(version)
        assert repository.versions() == [first, second]
    finally:
        repository.close()


def test_rows_survive_that_the_database_is_opened_twice_in_one_process(settings: StoreSettings, make) -> None:
    """The server's log holds it open while the look for drift opens and closes it. When another process left after that, it
    took the write-ahead log with it, and what was committed later was lost."""
    log = Repository(settings.database_url)
    try:
        log.append([make.session()])
        Repository(settings.database_url).close()
        assert counted_by_another_process(settings.database_url) == 1
        log.append([make.session()])
        assert log.count(Session) == 2
        assert counted_by_another_process(settings.database_url) == 2
    finally:
        log.close()
