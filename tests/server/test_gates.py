"""Which artifact decides: the one that fits, and what is said where it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from coderl_gate.artifact import GateArtifact, default_artifact, save
from coderl_gate.catalogue import FEATURE_VERSION
from coderl_gate.fitness import GENERATORS, Fit
from coderl_gate.gate import promote
from coderl_gate.synthetic import knowing
from coderl_generator.models import EMBEDDED
from coderl_server.errors import InputError
from coderl_server.gates import chosen_artifact, fit_sentence, generator_fit


def fitted_on(folder: Path, *generators: str) -> GateArtifact:
    return save(replace(knowing(), provenance={GENERATORS: list(generators)}), folder)


def of_another_version(folder: Path) -> None:
    """A sound artifact of a future feature version."""
    save(knowing(), folder)
    content: dict[str, Any] = json.loads((folder / "artifact.json").read_text())
    del content["id"]
    content["feature_version"] = FEATURE_VERSION + 1
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    content["id"] = "gate-" + sha256(canonical.encode()).hexdigest()[:20]
    (folder / "artifact.json").write_text(json.dumps(content))


def test_the_shipped_gate_is_the_prior_and_needs_no_words(tmp_path: Path) -> None:
    artifact, said = chosen_artifact(None, tmp_path, "some-model")
    assert (artifact.id, said) == (default_artifact().id, "")


@pytest.mark.parametrize("generator", ["mine", EMBEDDED.name])
def test_an_active_gate_decides_for_its_generator_and_for_comparable_ones(tmp_path: Path, generator: str) -> None:
    promote(tmp_path, save_to(tmp_path / "new", "mine"))
    artifact, said = chosen_artifact(None, tmp_path, generator)
    assert artifact.provenance[GENERATORS] == ["mine"]
    assert said == ""


def save_to(folder: Path, *generators: str) -> Path:
    fitted_on(folder, *generators)
    return folder


def test_an_active_gate_of_other_generators_gives_way_to_the_shipped_one_and_that_is_said(tmp_path: Path) -> None:
    promote(tmp_path, save_to(tmp_path / "new", "mine"))
    artifact, said = chosen_artifact(None, tmp_path, "another-model")
    assert artifact.id == default_artifact().id
    assert "was fitted on mine" in said
    assert "another-model" in said
    assert "the shipped one decides" in said
    assert "gate-calibrate" in said


def test_a_named_gate_of_other_generators_is_used_and_that_is_said(tmp_path: Path) -> None:
    made = fitted_on(tmp_path / "named", "mine")
    artifact, said = chosen_artifact(tmp_path / "named", tmp_path, "another-model")
    assert artifact == made
    assert "was fitted on mine" in said


@pytest.mark.parametrize("named", [True, False])
def test_a_gate_of_another_feature_version_gives_way_named_or_active(tmp_path: Path, named: bool) -> None:
    folder = tmp_path / "gate" / "artifacts" / "old"
    folder.parent.mkdir(parents=True)
    of_another_version(folder)
    (tmp_path / "gate" / "active").write_text("old\n")
    artifact, said = chosen_artifact(folder if named else None, tmp_path, "mine")
    assert artifact.id == default_artifact().id
    assert f"version {FEATURE_VERSION + 1} of the features" in said
    assert "the shipped one decides" in said


def test_a_named_gate_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no gate artifact"):
        chosen_artifact(tmp_path / "nowhere", tmp_path, "mine")


@pytest.mark.parametrize(
    ("generators", "running", "fit", "words"),
    [
        (("mine",), "mine", Fit.OWN, "fitted on suggestions of mine"),
        (("mine",), EMBEDDED.name, Fit.COMPARABLE, "made comparable"),
        (("mine",), "another", Fit.FOREIGN, "cannot be compared"),
        ((), "another", Fit.LEARNING, "until 30 suggestions"),
    ],
)
def test_the_fit_is_said_in_words(generators: tuple[str, ...], running: str, fit: Fit, words: str) -> None:
    artifact = replace(knowing(), provenance={GENERATORS: list(generators)})
    assert generator_fit(artifact, running) is fit
    assert words in fit_sentence(artifact, running)
