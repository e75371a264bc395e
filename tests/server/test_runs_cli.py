"""`coderl runs` and `coderl runs report`, as a user calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coderl_store.clock import VirtualClock
from coderl_trainer.runs import RunFolder

CODERL = Callable[..., tuple[int, str, str]]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One run that came to its end, one that failed."""
    clock = VirtualClock(0.0)
    with RunFolder.create(tmp_path / "runs", "good", {}, clock=clock) as folder:
        clock.advance_to(4000)
        folder.record(1, {"reward": 0.5, "solve/visible": 0.625, "solve/hidden": 0.25})
        folder.finish(best={"step": 1, "reward": 0.5})
    with RunFolder.create(tmp_path / "runs", "bad", {}, clock=clock) as folder:
        folder.fail("out of [memory]")
    return tmp_path / "runs"


def test_the_list_for_people(coderl: CODERL, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    code, out, _ = coderl("runs", str(runs))
    assert code == 0
    good = next(line for line in out.splitlines() if "000000Z-good" in line)
    assert [cell.strip() for cell in good.split("│")[1:-1]] == [
        "19700101T000000Z-good", "finished", "1", "1:06:40", "0.500", "62.5%", "25.0%", "step 1",
    ]  # fmt: skip
    assert "• 19700101T010640Z-bad: out of [memory]" in out


def test_the_list_for_machines(coderl: CODERL, runs: Path) -> None:
    code, out, _ = coderl("runs", str(runs), "--json")
    assert code == 0
    found = json.loads(out)
    assert [(run["run"], run["status"], run["steps"]) for run in found["runs"]] == [
        ("19700101T000000Z-good", "finished", 1),
        ("19700101T010640Z-bad", "failed", 0),
    ]
    assert coderl("runs", "list", str(runs), "--json")[1] == out
    assert coderl("runs", "--json", str(runs))[1] == out


def test_the_folder_is_called_runs_where_none_is_named(
    coderl: CODERL, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = coderl("runs", "--json")
    assert code == 0
    assert len(json.loads(out)["runs"]) == 2
    monkeypatch.chdir(runs)
    code, out, err = coderl("runs")
    assert (code, out) == (2, "")
    assert "runs cannot be read: No such file or directory" in err


def test_an_empty_folder(coderl: CODERL, tmp_path: Path) -> None:
    assert coderl("runs", str(tmp_path))[:2] == (0, f"No runs in {tmp_path}.\n")


def test_the_report_of_a_run(coderl: CODERL, runs: Path) -> None:
    good, bad = runs / "19700101T000000Z-good", runs / "19700101T010640Z-bad"
    code, out, _ = coderl("runs", "report", str(good))
    assert (code, out) == (0, f"{good / 'report.html'}\n")
    assert (good / "plots" / "reward.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = coderl("runs", "report", str(bad), "--json")
    assert code == 0
    assert json.loads(out)["plots"] == []
    assert "The run failed: out of [memory]." in json.loads(out)["warnings"]


def test_a_folder_that_is_no_run_is_the_users_mistake(coderl: CODERL, tmp_path: Path) -> None:
    code, out, err = coderl("runs", "report", str(tmp_path))
    assert (code, out) == (2, "")
    assert err == f"coderl: {tmp_path} holds no run: there is no config.json.\n"


def test_help_names_both_commands(coderl: CODERL) -> None:
    code, out, _ = coderl("runs", "--help")
    assert code == 0
    assert "list" in out
    assert "report" in out
