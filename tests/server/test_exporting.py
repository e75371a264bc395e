"""`coderl export-log` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coderl_gate import partitions
from coderl_gate.dataset import build, collect
from coderl_gate.synthetic import World
from coderl_store.home import default_database_url
from coderl_store.records import Origin, Record
from coderl_store.repository import Repository

pytest.importorskip("pyarrow")


@pytest.fixture
def log(own_home: Path) -> Repository:
    """Three users in the editor, one simulated."""
    own_home.mkdir()
    repository = Repository(default_database_url(own_home))
    worlds = [World(users=3, requests_per_user=30), World(users=1, requests_per_user=10, seed=5, origin=Origin.SIMULATED)]
    for request in (request for world in worlds for request in world.requests()):
        parts: list[Record | None] = [request.session, request.context, request.decision, request.suggestion, request.outcome]
        repository.append([record for record in (*parts, *request.survival) if record is not None])
    repository.close()
    return repository


def test_the_export_is_the_log(log: Repository, tmp_path: Path, coderl: Any) -> None:
    code, out, err = coderl("export-log", str(tmp_path / "out"), "--partition-rows", "40", "--json")
    assert code == 0, err
    manifest = json.loads(out)
    assert (manifest["rows"], len(manifest["partitions"]), manifest["origins"]) == (90, 2, ["editor"])
    assert manifest["schema_version"] == partitions.EXPORT_VERSION
    export = partitions.open_export(tmp_path / "out")
    assert collect(partitions.read(export.paths)).data_hash == build(log.requests()).data_hash
    log.close()


def test_other_origins_and_periods(log: Repository, tmp_path: Path, coderl: Any) -> None:
    middle = list(log.requests())[60].decision.at
    log.close()
    code, out, _ = coderl("export-log", str(tmp_path / "a"), "--origin", "simulated", "--json")
    assert (code, json.loads(out)["rows"]) == (0, 10)
    code, out, _ = coderl("export-log", str(tmp_path / "b"), "--until", middle.isoformat(), "--json")
    assert (code, json.loads(out)["rows"]) == (0, 60)
    code, out, _ = coderl("export-log", str(tmp_path / "c"))
    assert code == 0
    assert "90 requests in 1 partitions" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--origin", "elsewhere"), "--origin must be one of"),
        (("--since", "yesterday"), "is not a moment"),
        (("--database", "mysql://nowhere/x"), "sqlite"),
    ],
)
def test_wrong_input_is_one_sentence(
    arguments: tuple[str, ...], sentence: str, log: Repository, tmp_path: Path, coderl: Any
) -> None:
    code, out, err = coderl("export-log", str(tmp_path / "out"), *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_stays_as_it_is(log: Repository, tmp_path: Path, coderl: Any) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    code, _, err = coderl("export-log", str(tmp_path / "out"))
    assert code == 2
    assert "exists already" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
