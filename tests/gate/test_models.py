"""One battery of checks over every acceptance model, and over every calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.isotonic import IsotonicRegression
from sklearn.utils.estimator_checks import check_estimator

from coderl_gate.artifact import GateArtifact, StageModel, load, save
from coderl_gate.calibration import FITTERS, apply, choose, cross_fitted
from coderl_gate.catalogue import CONTEXT_NAMES
from coderl_gate.costs import CostParameters
from coderl_gate.errors import ArtifactError
from coderl_gate.models import BlendAcceptance, LogisticAcceptance, TreesAcceptance, sigmoid
from coderl_gate.scorer import BlendScorer

BUILD: Mapping[str, Callable[[], Any]] = {
    "logistic": LogisticAcceptance,
    "trees": lambda: TreesAcceptance(n_trees=60, min_rows=10, learning_rate=0.1),
    "blend": lambda: BlendAcceptance(trees=TreesAcceptance(n_trees=60, min_rows=10, learning_rate=0.1)),
}
NAMES = ("a", "b", "c", "d")


def data(seed: int = 0, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Four columns (the third often missing, the fourth always); the first two matter."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    y = (rng.random(n) < 1 / (1 + np.exp(-(1.5 * x[:, 0] - x[:, 1])))).astype(float)
    x[rng.random(n) < 0.4, 2] = np.nan
    x[:, 3] = np.nan
    return x, y


@pytest.fixture(params=BUILD)
def model(request: pytest.FixtureRequest) -> Any:
    return BUILD[request.param]()


def test_scikit_learns_own_checks(model: Any) -> None:
    trees = model.trees if isinstance(model, BlendAcceptance) else model
    expected = {}
    if isinstance(trees, TreesAcceptance):
        trees.set_params(min_rows=1, l2=0.0, learning_rate=0.3)  # its toy data sets have a dozen rows
        expected["check_sample_weight_equivalence_on_dense_data"] = "LightGBM counts rows, not weights, when it makes bins"
    results = check_estimator(model, expected_failed_checks=expected, on_skip=None, on_fail=None)
    failed = [result["check_name"] for result in results if result["status"] == "failed"]
    assert failed == []
    assert sum(result["status"] == "passed" for result in results) > 30


def test_the_constructor_leaves_parameters_alone_and_clone_forgets(model: Any) -> None:
    before = dict(model.get_params())
    fitted = model.fit(*data())
    assert fitted is model
    assert model.get_params() == before
    learned = [name for name in vars(model) if name.endswith("_")]
    assert "classes_" in learned
    assert not any(name in vars(clone(model)) for name in learned)


def test_probabilities_have_one_shape_and_sum_to_one(model: Any) -> None:
    x, y = data()
    p = model.fit(x, y).predict_proba(x[:7])
    assert p.shape == (7, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    np.testing.assert_array_equal(model.classes_, [0.0, 1.0])


def test_it_learns(model: Any) -> None:
    x, y = data()
    other, truth = data(1)
    p = model.fit(x, y).predict_proba(other)[:, 1]
    assert p[truth == 1].mean() > p[truth == 0].mean() + 0.2


def test_same_data_same_model(model: Any) -> None:
    x, y = data()
    first, second = clone(model).fit(x, y), clone(model).fit(x, y)
    np.testing.assert_array_equal(first.predict_proba(x), second.predict_proba(x))


def test_weights_of_two_are_rows_twice() -> None:
    model = LogisticAcceptance()
    x, y = data(n=120)
    doubled = np.arange(120) < 40
    weighted = clone(model).fit(x, y, np.where(doubled, 2.0, 1.0))
    repeated = clone(model).fit(np.vstack([x, x[doubled]]), np.concatenate([y, y[doubled]]))
    difference = np.abs(weighted.predict_proba(x) - repeated.predict_proba(x)).max()
    assert difference < 0.01  # the medians that stand for missing values differ a little


def test_the_exported_scorer_agrees(model: Any) -> None:
    x, y = data()
    model.fit(x, y)
    scorer = model.export(NAMES)
    tolerance = 1e-12 if isinstance(model, TreesAcceptance) else 1e-5
    for row, margin in zip(x, model.margin(x), strict=True):
        features = {name: None if np.isnan(value) else float(value) for name, value in zip(NAMES, row, strict=True)}
        assert scorer.score(features) == pytest.approx(margin, abs=tolerance)
    np.testing.assert_allclose(sigmoid(model.margin(x)), model.predict_proba(x)[:, 1])


@pytest.mark.parametrize("labels", [np.zeros(20), np.arange(20) % 3])
def test_other_than_two_classes_are_refused(model: Any, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"[Cc]lass"):
        model.fit(np.random.default_rng(0).normal(size=(20, 2)), labels)


def test_trees_keep_to_monotone_constraints() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(600, 2))
    y = (rng.random(600) < sigmoid(1.5 * np.sin(3 * x[:, 0]) + x[:, 1])).astype(float)
    free = TreesAcceptance(min_rows=10).fit(x, y)
    bound = TreesAcceptance(min_rows=10, monotone=(1, 0)).fit(x, y)
    line = np.column_stack([np.linspace(-3, 3, 200), np.zeros(200)])
    assert (np.diff(bound.margin(line)) >= 0).all()
    assert (np.diff(free.margin(line)) < 0).any()
    with pytest.raises(ValueError, match="monotone has 3 entries for 2 features"):
        TreesAcceptance(monotone=(1, 0, 0)).fit(x, y)


def test_constant_and_missing_columns_weigh_nothing() -> None:
    x, y = data()
    x[:, 1] = 7.0
    model = LogisticAcceptance().fit(x, y)
    assert model.weights_[1] == 0.0
    assert model.weights_[3] == 0.0
    assert set(model.export(NAMES).names) == {"a", "c"}


def skewed(seed: int = 0, n: int = 2000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Margins twice as sure as they should be, labels, and groups."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-0.5, 1.0, n)
    return 2 * true, (rng.random(n) < sigmoid(true)).astype(float), (np.arange(n) % 10).astype(np.str_)


def test_calibration_mends_overconfidence() -> None:
    margins, kept, groups = skewed()
    calibration, p, losses = choose(margins, kept, np.ones(len(kept)), groups)
    assert calibration.kind == "platt"
    assert calibration.parameters[0] == pytest.approx(0.5, abs=0.08)
    assert losses["platt"] < losses["identity"] - 0.01
    assert abs(p.mean() - kept.mean()) < 0.01


def test_isotonic_is_chosen_where_the_curve_has_a_step() -> None:
    rng = np.random.default_rng(1)
    margins = rng.uniform(-3, 3, 4000)
    kept = (rng.random(4000) < np.where(margins > 1, 0.9, 0.1)).astype(float)
    calibration, _, _ = choose(margins, kept, np.ones(4000), (np.arange(4000) % 10).astype(np.str_))
    assert calibration.kind == "isotonic"
    assert calibration.probability(2.0) == pytest.approx(0.9, abs=0.05)


def test_beta_is_chosen_where_only_one_side_is_too_sure() -> None:
    """High estimates are true, low ones twice too sure: no slope mends both."""
    rng = np.random.default_rng(2)
    true = rng.normal(0.0, 1.5, 6000)
    margins = np.where(true < 0, 3 * true, true)
    kept = (rng.random(6000) < sigmoid(true)).astype(float)
    calibration, _, losses = choose(margins, kept, np.ones(6000), (np.arange(6000) % 10).astype(np.str_))
    assert losses["beta"] < losses["platt"] - 0.001
    assert calibration.kind in ("beta", "isotonic", "venn_abers")


def test_venn_abers_is_what_its_authors_define() -> None:
    rng = np.random.default_rng(3)
    margins = rng.normal(size=300)
    kept = (rng.random(300) < sigmoid(margins)).astype(float)
    calibration = FITTERS["venn_abers"](margins, kept, np.ones(300))
    for point in calibration.margins[::8]:
        low, high = (
            IsotonicRegression(out_of_bounds="clip").fit(np.append(margins, point), np.append(kept, label)).predict([point])[0]
            for label in (0.0, 1.0)
        )
        assert low <= high
        assert calibration.probability(point) == pytest.approx(
            high / (1 - low + high), abs=0.02
        )  # points are rounded past ties


def test_good_margins_are_left_alone() -> None:
    margins, kept, groups = skewed()
    assert choose(margins / 2, kept, np.ones(len(kept)), groups)[0].kind == "identity"


@settings(max_examples=40)
@given(st.sampled_from(sorted(FITTERS)), st.integers(0, 1000))
def test_every_calibration_keeps_the_order(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    margins, weight = np.round(rng.normal(size=60), 1), rng.uniform(0.5, 20, 60)
    kept = (rng.random(60) < 0.4).astype(float)
    kept[:2] = 0, 1
    p = apply(FITTERS[name](margins, kept, weight), np.sort(margins))
    assert (np.diff(p) >= 0).all()
    assert ((p > 0) & (p < 1)).all()


def test_a_held_out_group_does_not_see_its_own_labels() -> None:
    margins, kept, groups = skewed(n=200)
    changed = kept.copy()
    changed[groups == "3"] = 1 - changed[groups == "3"]
    for fitter in FITTERS.values():
        before = cross_fitted(fitter, margins, kept, np.ones(200), groups)
        after = cross_fitted(fitter, margins, changed, np.ones(200), groups)
        np.testing.assert_array_equal(before[groups == "3"], after[groups == "3"])


def test_a_blend_survives_in_an_artifact(tmp_path: Path) -> None:
    x, y = data()
    names = CONTEXT_NAMES[:4]
    scorer = BlendAcceptance().fit(x, y).export(names)
    stage1 = StageModel(LogisticAcceptance().fit(x, y).export(names))
    made = GateArtifact(stage1, StageModel(scorer), 0.5, CostParameters(), "hash", "2026-01-01T00:00:00+00:00")
    saved = save(made, tmp_path / "gate")
    again = load(tmp_path / "gate")
    assert (again.stage2.kind, again.id) == ("blend", saved.id)
    features = dict(zip(names, (0.3, -1.0, None, None), strict=True))
    assert again.stage2.probability(features) == made.stage2.probability(features)
    (tmp_path / "gate" / "stage2.lgb.txt").unlink()
    with pytest.raises(ArtifactError, match=r"lacks stage2\.lgb\.txt"):
        load(tmp_path / "gate")


def test_a_blend_of_strangers_is_refused() -> None:
    x, y = data()
    linear, trees = LogisticAcceptance().fit(x, y).export(NAMES), TreesAcceptance().fit(x, y).export(("e", "f", "g", "h"))
    with pytest.raises(ArtifactError, match="different features"):
        BlendScorer(linear, trees)
