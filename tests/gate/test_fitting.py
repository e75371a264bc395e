"""Cross-validation by user, the choice of the model, the entropy limit, and the whole calibration on worlds of known truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate import metrics
from coderl_gate.artifact import GateArtifact, load, save, sealed
from coderl_gate.calibrate import Fit, calibrate, compare, require_not_worse, summary
from coderl_gate.catalogue import CONTEXT_FEATURES
from coderl_gate.costs import CostParameters
from coderl_gate.dataset import Dataset, Selection, build
from coderl_gate.errors import PromotionRefused
from coderl_gate.figures import score
from coderl_gate.fitting import clustered_mean, fit_stage, folds_of, out_of_fold, steps
from coderl_gate.models import BlendAcceptance, LogisticAcceptance, TreesAcceptance
from coderl_gate.outlook import outlook
from coderl_gate.policy import Policy, Rule
from coderl_gate.recalibration import walk
from coderl_gate.settling import by_entropy
from coderl_gate.synthetic import World, knowing
from coderl_store.records import Origin

TRUTH = CostParameters(verify_base_s=1.5)
SHOW_ALL = Policy(0.5, rule=Rule.ALWAYS_SHOW)


def logged(users: int = 10, per_user: int = 60, seed: int = 0, policy: Policy = SHOW_ALL) -> Dataset:
    world = World(users=users, requests_per_user=per_user, seed=seed, origin=Origin.SIMULATED)
    return build(world.requests(knowing(), policy, TRUTH), Selection(frozenset({Origin.SIMULATED})))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return logged()


@pytest.fixture(scope="module")
def fit(dataset: Dataset) -> Fit:
    return calibrate(dataset, {"source": "test"})


def test_each_user_is_held_out_alone_while_there_are_few(dataset: Dataset) -> None:
    np.testing.assert_array_equal(folds_of(dataset.groups), dataset.groups)


def test_many_users_are_held_out_in_folds_of_whole_users() -> None:
    groups = np.repeat([f"u{i}" for i in range(45)], 3)
    folds = folds_of(groups)
    assert len(np.unique(folds)) == 5
    assert all(len(np.unique(folds[groups == group])) == 1 for group in np.unique(groups))


def test_a_users_labels_never_reach_its_own_margins(dataset: Dataset) -> None:
    folds = folds_of(dataset.groups)
    held = dataset.users == "user-3"
    flipped = replace(dataset, kept=np.where(held, 1 - dataset.kept, dataset.kept))
    before = out_of_fold(LogisticAcceptance, dataset.before, dataset, folds)
    after = out_of_fold(LogisticAcceptance, dataset.before, flipped, folds)
    np.testing.assert_array_equal(before[held], after[held])
    assert (before[~held] != after[~held]).any()


def test_a_training_fold_of_one_class_gives_its_base_rate() -> None:
    dataset = logged(users=2)
    one_sided = replace(dataset, kept=np.where(dataset.users == "user-0", 0.0, dataset.kept))
    margins = out_of_fold(LogisticAcceptance, one_sided.before, one_sided, one_sided.groups)
    judged_by_user_0 = margins[one_sided.users == "user-1"]
    assert np.ptp(judged_by_user_0) == 0
    assert judged_by_user_0[0] < -4


def test_the_simpler_model_wins_where_the_truth_is_simple(fit: Fit) -> None:
    assert (fit.stage1.kind, fit.stage2.kind) == ("logistic", "logistic")
    assert set(fit.stage1.trials) == {"logistic", "trees", "blend"}


def test_trees_win_where_the_truth_is_bent() -> None:
    dataset = logged(users=8, per_user=150)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(len(dataset), len(CONTEXT_FEATURES)))
    kept = (rng.random(len(dataset)) < np.where(np.abs(x[:, -1]) > 0.7, 0.9, 0.1)).astype(float)
    stage = fit_stage(x, [replace(feature, monotone=0) for feature in CONTEXT_FEATURES], replace(dataset, kept=kept))
    assert stage.kind == "trees"
    assert stage.trials["logistic"].excess > stage.trials["logistic"].excess_error
    assert metrics.auc(kept.tolist(), stage.p.tolist()) == pytest.approx(0.9, abs=0.05)


def test_held_out_probabilities_are_good_and_honest(fit: Fit, dataset: Dataset) -> None:
    """The world's own probabilities are the best there are; a fitted gate comes near and is calibrated."""
    figures = summary(fit)
    p1, p2 = score(knowing(), dataset)
    kept = dataset.kept.tolist()
    best1, best2 = metrics.log_loss(kept, p1.tolist()), metrics.log_loss(kept, p2.tolist())
    assert best1 - 0.01 < figures["stage1"]["log_loss"] < best1 + 0.03
    assert best2 - 0.01 < figures["stage2"]["log_loss"] < best2 + 0.03
    assert figures["stage2"]["auc"] > figures["stage1"]["auc"]
    assert figures["stage2"]["ece"] < 0.08


def test_the_gate_saves_more_than_showing_everything_and_less_than_knowing(fit: Fit) -> None:
    ahead = fit.outlook
    assert ahead.show_all < ahead.gate < ahead.oracle
    assert ahead.gate > 0


def test_the_artifact_is_what_was_fitted(fit: Fit, dataset: Dataset) -> None:
    any1, any2 = score(fit.artifact, dataset)  # in sample, and trees know their own rows
    p1, p2, _ = walk(any1, any2, dataset, fit.artifact.tendency_prior)
    assert np.corrcoef(p1, fit.personal.p1)[0, 1] > 0.9
    assert np.corrcoef(p2, fit.personal.p2)[0, 1] > 0.9


def test_the_artifact_survives_saving(fit: Fit, tmp_path: Path) -> None:
    saved = save(fit.artifact, tmp_path / "gate")
    assert load(tmp_path / "gate") == saved == fit.artifact


def test_same_data_same_artifact() -> None:
    first, second = (calibrate(logged(users=3), {"source": "test"}).artifact.id for _ in range(2))
    assert first == second


def test_the_blends_margins_are_those_of_fitting_it() -> None:
    dataset = logged(users=3)
    trees = TreesAcceptance(monotone=tuple(feature.monotone for feature in CONTEXT_FEATURES))
    margins = [
        out_of_fold(build, dataset.before, dataset, dataset.groups)
        for build in (LogisticAcceptance, lambda: trees, lambda: BlendAcceptance(trees=trees))
    ]
    np.testing.assert_allclose(0.5 * (margins[0] + margins[1]), margins[2])


def test_exploration_weights_mend_selection() -> None:
    """A log in which only likely suggestions were shown, plus trials: the weighted fit knows the base rate of all of them."""
    picky = Policy(0.95, eagerness=-0.6, epsilon_skip=0.3, epsilon_withhold=0.3)
    dataset = logged(users=10, per_user=300, policy=picky)
    everything = logged(users=10, per_user=300)
    stage = fit_stage(dataset.before, CONTEXT_FEATURES, dataset)
    p = np.average(stage.p, weights=dataset.weight)
    assert dataset.kept.mean() > everything.kept.mean() + 0.05
    assert p == pytest.approx(everything.kept.mean(), abs=0.04)


def test_steps_are_announced_exactly() -> None:
    dataset, done = logged(users=3), []
    calibrate(dataset, {}, step=lambda: done.append(1))
    assert len(done) == steps(dataset)


def test_h_grows_with_the_budget_and_keeps_it(fit: Fit, dataset: Dataset) -> None:
    last = -1.0
    for budget_s in (0.0, 0.005, 0.02, 0.1, 10.0):
        found = by_entropy(fit.stage1.p, fit.stage2.p, dataset, TRUTH).within(budget_s)
        assert found.cost_s <= budget_s
        assert found.skipped + found.drafted >= last
        last = found.skipped + found.drafted
        assert 0 <= found.limit <= 1
    assert last > 0


def test_h_means_what_it_says(fit: Fit, dataset: Dataset) -> None:
    found = by_entropy(fit.stage1.p, fit.stage2.p, dataset, TRUTH).within(0.05)
    ahead = outlook(fit.stage1.p, fit.stage2.p, dataset, Policy(found.limit), TRUTH, TRUTH)
    assert ahead.generated == pytest.approx(1 - found.skipped)


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_h_never_overspends(seed: int, budget_s: float) -> None:
    rng = np.random.default_rng(seed)
    dataset = SMALL
    found = by_entropy(rng.random(len(dataset)), rng.random(len(dataset)), dataset, TRUTH).within(budget_s)
    assert 0 <= found.cost_s <= budget_s + 1e-12


def test_standard_errors_know_that_users_cluster() -> None:
    groups = np.repeat([f"u{i}" for i in range(20)], 50)
    values = np.repeat(np.random.default_rng(0).normal(size=20), 50)
    mean, error = clustered_mean(values, np.ones(1000), groups)
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(values[::50].std(ddof=1) / np.sqrt(20), rel=1e-6)
    assert clustered_mean(values, np.ones(1000), np.full(1000, "one"))[1] == float("inf")


def test_a_worse_artifact_is_refused_and_a_better_one_is_not(fit: Fit) -> None:
    better = knowing(fit.artifact.h_bits, fit.artifact.costs)
    worse = knowing(fit.artifact.h_bits, fit.artifact.costs, shift=2.0)
    comparison = compare(fit, worse)
    assert comparison.held_out
    assert comparison.log_loss[0] < comparison.log_loss[1]
    require_not_worse(comparison)
    shuffled = np.random.default_rng(0).permutation(fit.dataset.kept)
    spoiled = calibrate(replace(fit.dataset, kept=shuffled, kept_chars=shuffled * fit.dataset.chars), {"source": "test"})
    honest = replace(spoiled, dataset=fit.dataset)  # judged on what really happened
    with pytest.raises(PromotionRefused, match="held-out suggestions"):
        require_not_worse(compare(honest, better))


def test_an_artifact_fitted_on_the_same_rows_is_compared_in_sample(fit: Fit) -> None:
    again = compare(fit, fit.artifact)
    assert not again.held_out
    assert again.log_loss[0] == again.log_loss[1]
    assert again.verdict == "not worse"


def test_younger_rows_are_compared_alone() -> None:
    old = calibrate(logged(users=4), {"source": "log", "log": "a"}).artifact
    grown = calibrate(logged(users=6), {"source": "log", "log": "a"})
    comparison = compare(grown, old)
    assert comparison.held_out
    assert comparison.rows == 120
    elsewhere: GateArtifact = sealed(replace(old, provenance={**old.provenance, "log": "b"}))
    assert compare(grown, elsewhere).rows == 360


def test_a_solo_log_can_be_fitted_and_says_what_that_means() -> None:
    fit = calibrate(logged(users=1, per_user=150), {})
    assert any("one user only" in warning for warning in fit.warnings)
    assert any("One programmer only" in limit for limit in fit.artifact.provenance["limits"])
    assert summary(fit)["users"] == 1


def test_noise_is_called_noise() -> None:
    dataset = logged(users=6, per_user=40)
    rng = np.random.default_rng(5)
    kept = (rng.random(len(dataset)) < 0.3).astype(float)
    fit = calibrate(replace(dataset, kept=kept, kept_chars=kept * dataset.chars), {})
    assert any("no better than the base rate" in warning for warning in fit.warnings)


SMALL = logged(users=2, per_user=30)
