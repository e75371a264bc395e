"""An artifact comes back as it was written, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coderl_gate.artifact import SCHEMA_VERSION, GateArtifact, StageModel, default_artifact, load, save, sealed
from coderl_gate.catalogue import CONTEXT_NAMES, FEATURE_VERSION, P1, SUGGESTION_NAMES
from coderl_gate.costs import MAX_PERSONAL, CostParameters
from coderl_gate.errors import ArtifactError
from coderl_gate.margins import Calibration
from coderl_gate.scorer import LinearScorer, TreeScorer

STAGE2_NAMES = ("line_blank", "s_chars", "logprob_mean", P1.name)


def linear(names: tuple[str, ...], weight: float = 0.5) -> LinearScorer:
    zeros, ones = (0.0,) * len(names), (1.0,) * len(names)
    return LinearScorer(names, (weight,) * len(names), zeros, ones, zeros, -0.25)


def trees(names: tuple[str, ...]) -> TreeScorer:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(200, len(names)))
    data = lightgbm.Dataset(x, (x[:, 0] > 0).astype(int), feature_name=list(names))
    settings = {"objective": "binary", "num_leaves": 5, "verbose": -1, "num_threads": 1}
    return TreeScorer.parse(lightgbm.train(settings, data, 4).model_to_string(), names)


def artifact(**changes: Any) -> GateArtifact:
    values: dict[str, Any] = {
        "stage1": StageModel(linear(("line_prefix_chars", "previous_kept")), Calibration.platt(1.1, -0.1)),
        "stage2": StageModel(trees(STAGE2_NAMES), Calibration.isotonic([-1.0, 0.5], [0.1, 0.8])),
        "h_bits": 0.6,
        "costs": CostParameters(typing_chars_per_s=4.25),
        "personal": {"ada": {"typing_chars_per_s": 7.5, "edit_share": 0.0}, "bob": {"verify_base_s": 1.25}},
        "data_hash": "abc",
        "created_at": "2026-11-20T00:00:00Z",
        "metrics": {"auc": 0.75, "ece": float("nan"), "curve": ((0.1, 0.2), (0.3, 0.4))},
        "provenance": {"data": "three rows made by hand", "limits": "good for nothing but tests"},
    }
    return GateArtifact(**{**values, **changes})


ROW = dict.fromkeys((*CONTEXT_NAMES, *SUGGESTION_NAMES, P1.name), 0.37)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    written = save(artifact(), tmp_path / "deep" / "a")
    again = load(tmp_path / "deep" / "a")
    assert again.id == written.id
    assert again.id.startswith("gate-")
    assert (again.h_bits, again.costs, again.data_hash, again.created_at) == (0.6, written.costs, "abc", "2026-11-20T00:00:00Z")
    assert again.metrics == {"auc": 0.75, "ece": None, "curve": [[0.1, 0.2], [0.3, 0.4]]}
    assert again.provenance == written.provenance
    assert (again.stage1.kind, again.stage2.kind) == ("linear", "trees")
    for one, other in ((written.stage1, again.stage1), (written.stage2, again.stage2)):
        assert one.names == other.names
        assert one.probability(ROW) == other.probability(ROW)
    assert sorted(path.name for path in (tmp_path / "deep" / "a").iterdir()) == ["artifact.json", "stage2.lgb.txt"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a"]  # nothing temporary is left


def test_a_programmer_has_their_own_costs_and_a_stranger_the_populations(tmp_path: Path) -> None:
    save(artifact(), tmp_path / "a")
    again = load(tmp_path / "a")
    assert again.personal == artifact().personal
    assert again.costs_of_user("ada") == CostParameters(typing_chars_per_s=7.5, edit_share=0.0)
    assert again.costs_of_user("bob") == CostParameters(typing_chars_per_s=4.25, verify_base_s=1.25)
    assert again.costs_of_user("nobody") == again.costs == CostParameters(typing_chars_per_s=4.25)


def test_the_id_is_the_content(tmp_path: Path) -> None:
    one = sealed(artifact())
    assert one.id == sealed(replace(one, id="something else")).id
    assert save(one, tmp_path / "a").id == one.id
    assert save(load(tmp_path / "a"), tmp_path / "b").id == one.id
    for changes in (
        {"h_bits": 0.61},
        {"data_hash": "abd"},
        {"metrics": {}},
        {"personal": {}},
        {"stage1": StageModel(linear(("line_blank",)))},
    ):
        assert sealed(artifact(**changes)).id != one.id


def test_an_existing_directory_is_replaced_only_when_told(tmp_path: Path) -> None:
    save(artifact(), tmp_path / "a")
    with pytest.raises(ArtifactError, match="exists already"):
        save(artifact(h_bits=0.1), tmp_path / "a")
    assert load(tmp_path / "a").h_bits == 0.6
    save(artifact(h_bits=0.1), tmp_path / "a", replace_existing=True)
    assert load(tmp_path / "a").h_bits == 0.1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match="cannot be written"):
        save(artifact(), tmp_path / "file" / "a")


def rewrite(directory: Path, change: Callable[[dict[str, Any]], None], *, honest: bool) -> None:
    """Change `artifact.json`; `honest` also gives it the id that its new content has, as another program might."""
    from coderl_gate.artifact import _content_id

    content = json.loads((directory / "artifact.json").read_text())
    change(content)
    if honest:
        content.pop("id", None)
        content["id"] = _content_id(content)
    (directory / "artifact.json").write_text(json.dumps(content))


def refused(directory: Path, match: str) -> None:
    with pytest.raises(ArtifactError, match=match) as caught:
        load(directory)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(artifact(), tmp_path / "a")
    return tmp_path / "a"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.update(schema_version=SCHEMA_VERSION + 1), "update CodeRL"),
        (lambda c: c.update(schema_version="x"), "update CodeRL"),
        (lambda c: c.update(schema_version=SCHEMA_VERSION - 1), "fit a new one"),
        (lambda c: c.pop("personal"), "damaged"),
        (lambda c: c.update(personal=[]), "damaged"),
        (lambda c: c["personal"].update(ada=None), "damaged"),
        (lambda c: c["personal"].update(ada={"typing_chars_per_s": 0}), "typing_chars_per_s"),
        (lambda c: c["personal"].update(ada={"typing_chars_per_s": "fast"}), "damaged"),
        (lambda c: c["personal"].update(ada={"edit_share": 1.5}), "edit_share"),
        (lambda c: c["personal"].update(ada={"think_s_per_line": 1.0}), "cannot be think_s_per_line"),
        (lambda c: c.update(personal={f"user-{i}": {} for i in range(MAX_PERSONAL + 1)}), "10001 programmers"),
        (lambda c: c.update(format="other"), "not a gate artifact"),
        (lambda c: c.update(feature_version=FEATURE_VERSION + 1), "version .* of the features"),
        (lambda c: c.update(h_bits=2), "h_bits"),
        (lambda c: c.update(h_bits="0.5"), "h_bits"),
        (lambda c: c.pop("costs"), "damaged"),
        (lambda c: c["costs"].update(edit_share=7), "edit_share"),
        (lambda c: c["costs"].update(tea_breaks=1), "damaged"),
        (lambda c: c["costs"].update(edit_share="x"), "damaged"),
        (lambda c: c["stage1"].update(kind="forest"), "unknown kind"),
        (lambda c: c["stage1"]["model"].update(names=["line_blank", "p1"]), "features that its stage does not have: p1"),
        (lambda c: c["stage1"]["model"].update(names=["line_blank", "s_chars"]), "does not have: s_chars"),
        (lambda c: c["stage2"].update(names=["a", "b", "c", "d"]), "other features"),
        (lambda c: c["stage2"].update(calibration={}), "not a calibration"),
        (lambda c: c.update(stage2=None), "damaged"),
    ],
)
def test_foreign_artifacts_are_refused(saved: Path, change: Callable[[dict[str, Any]], None], match: str) -> None:
    rewrite(saved, change, honest=True)
    refused(saved, match)


def test_a_changed_number_is_noticed(saved: Path) -> None:
    rewrite(saved, lambda c: c["stage1"]["model"].update(intercept=3.0), honest=False)
    refused(saved, "changed after it was written")


def test_a_changed_or_missing_tree_file_is_noticed(saved: Path) -> None:
    file = saved / "stage2.lgb.txt"
    file.write_text(file.read_text().replace("leaf_value=", "leaf_value=1", 1))
    refused(saved, "changed after it was written")
    file.unlink()
    refused(saved, "lacks stage2")


def test_a_missing_or_cut_file_is_noticed(saved: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no gate artifact")
    text = (saved / "artifact.json").read_text()
    (saved / "artifact.json").write_text(text[:-40])
    refused(saved, "not JSON")
    (saved / "artifact.json").write_text("[1, 2]")
    refused(saved, "not a gate artifact")
    (saved / "artifact.json").write_text(text.replace("0.6,", "NaN,", 1))
    refused(saved, "not JSON")
    (saved / "artifact.json").write_bytes(b"\xff\xfe\x00")
    refused(saved, "not JSON")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_flipped_byte_is_refused_or_harmless(saved: Path, data: st.DataObject) -> None:
    copy = saved.parent / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(saved, copy)
    file = copy / data.draw(st.sampled_from(["artifact.json", "stage2.lgb.txt"]))
    raw = bytearray(file.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(raw)
    try:
        again = load(copy)
    except ArtifactError:
        return
    assert again.id == load(saved).id  # white space between two JSON values


def test_probabilities_are_calibrated_margins() -> None:
    stage = StageModel(linear(("line_blank",)), Calibration.platt(2.0, 1.0))
    margin = stage.scorer.score({"line_blank": 1.0})
    assert margin == pytest.approx(0.25)
    assert stage.probability({"line_blank": 1.0}) == Calibration.platt(2.0, 1.0).probability(margin)


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ArtifactError, match="JSON"):
        sealed(artifact(metrics={"rows": object()}))


def test_the_default_artifact_loads_or_says_what_to_do() -> None:
    try:
        shipped = default_artifact()
    except ArtifactError as error:
        assert "gate-calibrate" in str(error)  # noqa: PT017  # either outcome is right, and each has its own check
    else:
        assert shipped.provenance["limits"]
