from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from coderl_store import records as vocabulary
from coderl_store.clock import VirtualClock
from coderl_store.home import StoreSettings
from coderl_store.log import Log
from coderl_store.memory import MemoryLog
from coderl_store.privacy import TEXT_FIELDS, admit
from coderl_store.records import RECORD_TYPES, Context, Privacy, Suggestion
from coderl_store.spool import Spool

CANARY = "canary_4711_must_not_leave"


def bytes_under(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_metrics_empties_text_and_nothing_else(make) -> None:
    for record in make.request(make.session(), CANARY):
        kept = admit(record, Privacy.METRICS)
        assert kept == replace(record, **TEXT_FIELDS.get(type(record), {}))
        assert CANARY not in repr(kept)


def test_code_keeps_everything_and_off_nothing(make) -> None:
    for record in make.request(make.session(), CANARY):
        assert admit(record, Privacy.CODE) is record
        assert admit(record, Privacy.OFF) is None


def test_every_field_documented_as_text_is_emptied() -> None:
    """The docstring that marks a field *text* and the table that empties it say the same."""
    marked: dict[str, set[str]] = {}
    for node in ast.parse(inspect.getsource(vocabulary)).body:
        if isinstance(node, ast.ClassDef):
            for field, doc in zip(node.body, node.body[1:], strict=False):
                is_doc = (
                    isinstance(doc, ast.Expr)
                    and isinstance(doc.value, ast.Constant)
                    and str(doc.value.value).startswith("*text*")
                )
                if is_doc and isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    marked.setdefault(node.name, set()).add(field.target.id)
    assert marked == {kind.__name__: set(values) for kind, values in TEXT_FIELDS.items()}
    assert set(TEXT_FIELDS) <= set(RECORD_TYPES)


@pytest.mark.parametrize("level", [Privacy.METRICS, Privacy.CODE])
def test_no_text_reaches_spool_or_database_at_metrics(make, tmp_path: Path, level: Privacy) -> None:
    """At `code` the canary is found, so the search is able to find it."""
    database = tmp_path / "elsewhere" / "log.db"
    settings = StoreSettings(tmp_path / "home", f"sqlite:///{database}", level)
    settings.home.mkdir()
    log = Log(settings, clock=VirtualClock())
    log.start()
    session = make.session()
    log.append(session, *make.request(session, CANARY))  # the folder of the database is missing: all of it stays in the spool
    spooled = bytes_under(settings.home / "spool")
    assert session.id.encode() in spooled
    database.parent.mkdir()
    assert log.flush(20)
    log.close(5)
    stored = bytes_under(database.parent)
    assert session.id.encode() in stored
    for content in (spooled, stored):
        assert (CANARY.encode() in content) == (level is Privacy.CODE)
        assert (b"987654321" in content) == (level is Privacy.CODE)


def test_off_writes_nothing_at_all(make, tmp_path: Path) -> None:
    log = Log(StoreSettings(tmp_path, f"sqlite:///{tmp_path / 'log.db'}", Privacy.OFF), clock=VirtualClock())
    log.start()
    log.append(*make.request(make.session(), CANARY))
    assert log.submit(make.session()).done()
    assert log.flush(1)
    log.close(1)
    assert list(tmp_path.iterdir()) == []
    assert log.health().pending == log.health().committed == 0


def test_lowering_the_level_empties_what_still_waits(make, tmp_path: Path) -> None:
    """Lines that a dead process wrote at `code` are replayed by one at `metrics`: the lower level is the limit."""
    first = Spool(tmp_path / "spool", VirtualClock())
    first.start()
    first.append(make.request(make.session(), CANARY))
    first.close(5)
    assert CANARY.encode() in bytes_under(tmp_path)
    second = Log(StoreSettings(tmp_path, f"sqlite:///{tmp_path / 'log.db'}", Privacy.METRICS), clock=VirtualClock())
    second.start()
    assert second.flush(20)
    second.close(5)
    assert second.health().committed == 6
    assert CANARY.encode() not in bytes_under(tmp_path)


def test_the_double_enforces_it_too(make) -> None:
    log = MemoryLog()
    log.append(*make.request(make.session(), CANARY))
    assert CANARY not in repr(log.records)
    assert [type(record) for record in log.records[:3:2]] == [Context, Suggestion]
    assert MemoryLog(Privacy.OFF).submit(make.session()).exception() is None


def test_importing_the_package_imports_no_database_library() -> None:
    code = (
        "import coderl_store, sys; print([m for m in ('sqlalchemy', 'alembic', 'numpy', 'platformdirs') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
