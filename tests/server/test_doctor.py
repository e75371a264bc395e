"""The doctor: each line with its cure, and a check that cannot run is a finding too."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from coderl_gate.artifact import default_artifact, save
from coderl_gate.fitness import GENERATORS
from coderl_gate.gate import promote
from coderl_generator.errors import JailUnavailable
from coderl_generator.jail import open_jail
from coderl_server.doctor import State, examine
from coderl_store.dialect import open_engine, writing
from coderl_store.home import default_database_url
from coderl_store.records import Origin, Session
from coderl_store.repository import Repository
from coderl_store.schema import current_revision, upgrade


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
    assert names[:7] == ["Python", "Data folder", "Database", "Spool", "Gate", "Embedded model", "Drift"]
    assert len(set(names)) == len(names)
    assert all(line["cure"] for line in report["findings"] if line["state"] != "works")


def test_a_database_that_is_none_is_said(own_home: Path) -> None:
    own_home.mkdir()
    (own_home / "coderl.db").write_text("This is a letter to my grandmother.\n" * 100)
    found = finding("Database")
    assert found.state is State.FAILS
    assert "is not a database" in found.text
    assert "Nothing is lost" in found.cure

    drift = finding("Drift")
    assert (drift.state, drift.cure) == (State.MISSING, "Cure what is said of the database.")


def test_it_only_looks(own_home: Path) -> None:
    """A doctor who makes a database has changed the patient."""
    assert finding("Database").text == "no log yet: the first session makes it"
    assert finding("Drift").state is State.WORKS
    assert list(own_home.iterdir()) == []


def test_a_log_of_an_older_version_is_left_as_it_is(own_home: Path) -> None:
    own_home.mkdir()
    engine = open_engine(default_database_url(own_home))
    with writing(engine) as connection:
        upgrade(connection, "0002")
    found = finding("Database")
    assert found.state is State.MISSING
    assert "at revision 0002" in found.text
    assert "Start the server once" in found.cure
    assert current_revision(engine) == "0002"
    engine.dispose()


def test_decisions_are_counted_and_the_last_generator_is_held_against_the_gate(own_home: Path, tmp_path: Path) -> None:
    """Two sessions of an editor, the later with a generator that the active gate was not fitted on."""
    artifact = replace(default_artifact(), provenance={GENERATORS: ["first"]})
    save(artifact, tmp_path / "gate")
    promote(own_home, tmp_path / "gate")
    log = Repository(default_database_url(own_home))
    now = datetime.now(UTC)
    log.append([Session("a", now - timedelta(days=2), Origin.EDITOR, "u", generator_id="first")])
    assert finding("Database").text == "0 decisions logged"
    fits = finding("Gate")
    assert (fits.state, fits.cure) == (State.WORKS, "")
    assert "fitted on suggestions of first" in fits.text
    log.append([Session("b", now - timedelta(days=1), Origin.EDITOR, "u", generator_id="second")])
    log.append([Session("c", now, Origin.SIMULATED, "u", generator_id="first")])
    foreign = finding("Gate")
    assert foreign.state is State.MISSING
    assert "log-probs of second cannot be compared" in foreign.text
    assert "The shipped gate decides meanwhile." in foreign.text
    assert "gate-calibrate --promote" in foreign.cure
    log.append([Session("d", now - timedelta(days=90), Origin.EDITOR, "u", generator_id="first")])
    assert finding("Gate") == foreign  # what was used long ago is not what is used
    log.close()


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


def test_the_jail_is_tried_and_not_only_looked_for() -> None:
    found = finding("Jail")
    if found.state is State.MISSING:
        with pytest.raises(JailUnavailable) as said:
            open_jail()
        assert found.cure == str(said.value)
    else:
        assert open_jail().name == "bwrap"
        assert (found.state, found.text) == (State.WORKS, "bwrap, 15 guarantees in force")
