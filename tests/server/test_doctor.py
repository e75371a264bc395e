"""The doctor: each line with its cure, and a check that cannot run is a finding too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coderl_server.doctor import State, examine


def finding(name: str) -> Any:
    (found,) = [finding for finding in examine().findings if finding.name == name]
    return found


def test_a_machine_without_a_model_is_told_how_to_get_one() -> None:
    found = finding("Embedded model")
    assert found.state is State.FAILS
    assert "coderl models install" in found.cure
    assert not examine().works


def test_every_line_that_is_not_well_has_its_cure() -> None:
    report = examine().to_json()
    names = [line["name"] for line in report["findings"]]
    assert names[:6] == ["Python", "Data folder", "Database", "Spool", "Gate", "Embedded model"]
    assert len(set(names)) == len(names)
    assert all(line["cure"] for line in report["findings"] if line["state"] != "works")


def test_a_database_that_is_none_is_said(own_home: Path) -> None:
    own_home.mkdir()
    (own_home / "coderl.db").write_text("This is a letter to my grandmother.\n" * 100)
    found = finding("Database")
    assert found.state is State.FAILS
    assert "is not a database" in found.text
    assert "Nothing is lost" in found.cure


def test_a_broken_gate_is_said(own_home: Path) -> None:
    (own_home / "gate").mkdir(parents=True)
    (own_home / "gate" / "active").write_text("missing\n")
    found = finding("Gate")
    assert found.state is State.FAILS
    assert "--rollback" in found.cure


def test_records_that_wait_and_records_that_were_set_aside_are_counted(own_home: Path) -> None:
    (own_home / "spool").mkdir(parents=True)
    (own_home / "spool" / "a.jsonl").write_text("12345")
    assert finding("Spool").text.startswith("5 bytes wait")
    (own_home / "spool" / "damaged").mkdir()
    (own_home / "spool" / "damaged" / "a-0.line").write_text("x")
    assert finding("Spool").state is State.MISSING


def test_a_setting_that_makes_no_sense_ends_the_examination_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODERL_PRIVACY", "some")
    report = examine()
    assert not report.works
    assert [found.name for found in report.findings][:2] == ["Python", "Data folder"]
    assert report.findings[1].state is State.FAILS


def test_it_renders_with_names_and_cures() -> None:
    from rich.console import Console

    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123  (closed with the console)
    examine().render(console)
    text = console.export_text()
    console.file.close()
    assert "Embedded model" in text
    assert "→ Run `coderl models install`." in text


@pytest.mark.model
def test_the_installed_model_really_decodes(embedded_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODERL_HOME", str(embedded_model.parents[1]))
    found = finding("Embedded model")
    assert found.state is State.WORKS
    assert "decoded" in found.text
