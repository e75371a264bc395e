"""`coderl import cups`: the telemetry in the log is the telemetry itself."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coderl_gate import cups
from coderl_gate.dataset import Dataset, Selection, build, collect
from coderl_server.errors import InputError
from coderl_server.importing import import_cups
from coderl_server.replaying import ReplayOptions, run_replay
from coderl_store.home import default_database_url
from coderl_store.records import RECORD_TYPES, Context, Decision, Origin, Suggestion
from coderl_store.repository import Repository

IMPORTED = Selection(frozenset({Origin.IMPORTED}))
CODE = "import os\n\nprint("


def event(state: str, second: float, user: int, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "UserId": user,
        "TimeGenerated": f"2022-08-08T{8 + int(second) // 3600:02}:{int(second) // 60 % 60:02}:{second % 60:06.3f}Z",
        "StateName": state,
        "TimeSpentInState": 0.3 + second % 7 / 10,
        "CurrentSuggestion": "os.getcwd())" + "  # canary" * (int(second) % 3),
        "CurrentPrompt": CODE,
        "Measurements": {"documentLength": 40.0, "promptEndPos": 17.0, "meanLogProb": -0.3 - second / 1000, "numTokens": 5.0},
        "EditPercentage": [0.0, 0.0, 0.1, 0.2, second % 11 / 11],
        "LabeledState": cups.READING,
        "Task": "Tests",
    }
    return {**made, **changes}


def telemetry(folder: Path, *, users: int = 4, per_user: int = 25, bad: tuple[str, ...] = ()) -> Path:
    rows = [
        event(state, 10.0 * index + offset, user)
        for user in range(users)
        for index in range(per_user)
        for state, offset in (("Shown", 0.0), ("Accepted" if (index + user) % 3 == 0 else "Rejected", 1.37 + index / 10))
    ]
    folder.mkdir(exist_ok=True)
    path = folder / "events.jsonl"
    path.write_text("\n".join([*map(json.dumps, rows), *bad]) + "\n", encoding="utf-8")
    return path


def assert_same(one: Dataset, other: Dataset) -> None:
    """Every field, every bit."""
    for item in fields(Dataset):
        ours, theirs = getattr(one, item.name), getattr(other, item.name)
        if isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(ours, theirs, err_msg=item.name)
        else:
            assert ours == theirs, item.name


def imported_dataset(home: Path) -> Dataset:
    repository = Repository(default_database_url(home))
    try:
        return collect(repository.columns(origins=(Origin.IMPORTED,), batch=17), IMPORTED)
    finally:
        repository.close()


def test_the_log_gives_the_dataset_that_the_file_gives(own_home: Path, tmp_path: Path) -> None:
    path = telemetry(tmp_path / "cups")
    report = import_cups(path.parent)
    assert (report.decisions, report.new["decision"], report.new["session"]) == (100, 100, 4)
    assert_same(imported_dataset(own_home), build(cups.read(path.parent).requests, IMPORTED))


@pytest.mark.cups
def test_the_real_telemetry_too(own_home: Path, shared_data: Path) -> None:
    report = import_cups(shared_data / "cups")
    assert report.to_json()["new_decisions"] == 723
    assert_same(imported_dataset(own_home), build(cups.read(shared_data / "cups").requests, IMPORTED))


def test_a_second_import_adds_nothing(own_home: Path, tmp_path: Path) -> None:
    path = telemetry(tmp_path / "cups")
    first, second = import_cups(path), import_cups(path.parent)
    assert first.records == second.records
    assert sum(first.new.values()) == sum(first.records.values())
    assert set(second.new.values()) == {0}
    more = import_cups(telemetry(tmp_path / "more", users=5))
    assert (more.new["session"], more.new["decision"]) == (1, 25)


@pytest.mark.parametrize(("privacy", "text_is_there"), [("metrics", False), ("code", True)])
def test_the_privacy_level_is_kept(
    privacy: str, text_is_there: bool, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODERL_PRIVACY", privacy)
    import_cups(telemetry(tmp_path / "cups"))
    repository = Repository(default_database_url(own_home))
    contexts, suggestions = list(repository.stream(Context)), list(repository.stream(Suggestion))
    repository.close()
    assert {context.prefix is not None for context in contexts} == {text_is_there}
    assert {suggestion.text is not None for suggestion in suggestions} == {text_is_there}
    assert all(len(row.features) > 20 for row in (*contexts, *suggestions))
    assert (b"canary" in (own_home / "coderl.db").read_bytes()) is text_is_there


def test_nothing_may_be_recorded(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODERL_PRIVACY", "off")
    with pytest.raises(InputError, match="CODERL_PRIVACY is off"):
        import_cups(telemetry(tmp_path / "cups"))
    assert not (own_home / "coderl.db").exists()


def test_imported_rows_are_marked_and_enter_only_when_asked_for(own_home: Path, tmp_path: Path) -> None:
    import_cups(telemetry(tmp_path / "cups"))
    repository = Repository(default_database_url(own_home))
    assert list(repository.requests()) == []
    assert repository.count(Decision, (Origin.IMPORTED,)) == 100
    assert all(repository.count(kind, (Origin.EDITOR,)) == 0 for kind in RECORD_TYPES)
    repository.close()
    with pytest.raises(InputError):
        run_replay(ReplayOptions())
    with pytest.raises(InputError, match="--origin must be one of editor, simulated, imported, not elsewhere"):
        run_replay(ReplayOptions(origins=("elsewhere",)))
    assert run_replay(ReplayOptions(origins=("imported",))).report.n == 100


def test_the_command_reports_bad_rows_with_their_lines(own_home: Path, tmp_path: Path, coderl: Any) -> None:
    path = telemetry(tmp_path / "cups", bad=("{oops", json.dumps(event("Accepted", 3000, 9))))
    code, out, _ = coderl("import", "cups", str(path), "--json")
    figures = json.loads(out)
    assert code == 0
    assert (figures["decisions"], figures["new_decisions"], figures["events"]) == (100, 100, 202)
    assert [row["line"] for row in figures["skipped"]] == [201, 202]
    code, out, _ = coderl("import", "cups", str(path))
    said = " ".join(out.split())
    assert code == 0
    assert "Line 201 skipped" in said
    assert "100 decisions (0 new)" in said


def test_an_import_is_all_or_nothing(own_home: Path, tmp_path: Path, coderl: Any) -> None:
    own_home.mkdir()
    Repository(default_database_url(own_home)).close()
    with sqlite3.connect(own_home / "coderl.db") as connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON survivals WHEN NEW.share < 0.5 BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    connection.close()
    code, _, err = coderl("import", "cups", str(telemetry(tmp_path / "cups")))
    assert code == 1
    assert len(err.strip().splitlines()) == 1
    repository = Repository(default_database_url(own_home))
    assert all(repository.count(kind) == 0 for kind in RECORD_TYPES)
    repository.close()


@pytest.mark.parametrize("what", ["nothing", "a folder without the file", "no decision"])
def test_a_path_that_holds_no_telemetry_is_one_sentence(what: str, own_home: Path, tmp_path: Path, coderl: Any) -> None:
    path = tmp_path / "cups"
    if what != "nothing":
        path.mkdir()
    if what == "no decision":
        (path / "events.jsonl").write_text(json.dumps(event("Shown", 1, 1)) + "\n")
    code, out, err = coderl("import", "cups", str(path))
    assert (code, out) == (2, "")
    assert err.startswith("coderl: ")
    assert len(err.strip().splitlines()) == 1
