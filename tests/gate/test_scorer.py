"""Models in pure Python agree with the libraries they come from, and refuse what they do not understand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from coderl_gate.errors import ArtifactError
from coderl_gate.margins import SMALLEST, Calibration, sigmoid
from coderl_gate.scorer import LinearScorer, Scorer, TreeScorer

NAMES = ("a", "b", "c", "d", "e")


def rows(seed: int, n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Values on all scales, with missing ones, exact zeros, nearly zeros, infinities and values that occur twice."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(NAMES))) * 10.0 ** rng.integers(-3, 4, size=len(NAMES))
    x[:, 2] = np.round(x[:, 2] * 3)
    x[rng.random(x.shape) < 0.15] = 0.0
    x[rng.random(x.shape) < 0.02] = 1e-36
    x[rng.random(x.shape) < 0.15] = np.nan
    return x


def as_features(row: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else float(value) for name, value in zip(NAMES, row, strict=True)}


def booster(seed: int = 0, **parameters: object) -> lightgbm.Booster:
    x = rows(seed, 400)
    signal = np.nan_to_num(x[:, 0]) > 0
    y = np.where(np.random.default_rng(seed + 1).random(400) < 0.2, ~signal, signal).astype(int)
    settings = {"objective": "binary", "num_leaves": 12, "min_data_in_leaf": 4, "verbose": -1, "seed": seed, "num_threads": 1}
    return lightgbm.train({**settings, **parameters}, lightgbm.Dataset(x, y, feature_name=list(NAMES)), 15)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"zero_as_missing": True},
        {"use_missing": False},
        {"boost_from_average": False, "boosting": "dart"},
        {"monotone_constraints": [1, 0, 0, -1, 0]},
        {"min_data_in_leaf": 300},  # no split is possible: trees of one leaf
        {"objective": "cross_entropy"},
    ],
    ids=lambda p: ",".join(p) or "plain",
)
def test_trees_equal_lightgbm(parameters: Mapping[str, object]) -> None:
    model = booster(**parameters)
    scorer = TreeScorer.parse(model.model_to_string(), NAMES)
    x = rows(99, 500)
    x[:5, 0], x[5:10, 1] = np.inf, -np.inf
    expected = model.predict(x, raw_score=True)
    for row, value in zip(x, expected, strict=True):
        assert scorer.score(as_features(row)) == pytest.approx(value, abs=1e-12)


def test_missing_kinds_really_occur() -> None:
    """The test above would prove little if the trees never had to look at a missing value."""

    def kinds(**parameters: object) -> set[int]:
        lines = booster(**parameters).model_to_string().split("\n")
        return {int(value) >> 2 & 3 for line in lines if line.startswith("decision_type=") for value in line[14:].split()}

    assert 2 in kinds()
    assert kinds(zero_as_missing=True) == {1}
    assert kinds(use_missing=False) == {0}


def test_values_on_a_threshold_go_left_as_in_lightgbm() -> None:
    model = booster()
    text = model.model_to_string()
    thresholds = [
        float(v) for line in text.split("\n") if line.startswith("threshold=") for v in line.removeprefix("threshold=").split()
    ]
    scorer = TreeScorer.parse(text, NAMES)
    x = np.array([[t if column == place else 1.0 for column in range(5)] for t in thresholds[:60] for place in range(5)])
    for row, value in zip(x, model.predict(x, raw_score=True), strict=True):
        assert scorer.score(as_features(row)) == pytest.approx(value, abs=1e-12)


def test_trees_are_scorers_and_know_their_text() -> None:
    text = booster().model_to_string()
    scorer = TreeScorer.parse(text, NAMES)
    assert isinstance(scorer, Scorer)
    assert (scorer.names, scorer.text, scorer.trees) == (NAMES, text, 15)


def refused(text: str, match: str, names: tuple[str, ...] = NAMES) -> None:
    with pytest.raises(ArtifactError, match=match) as caught:
        TreeScorer.parse(text, names)
    assert "\n" not in str(caught.value)


def test_models_of_other_kinds_are_refused() -> None:
    x, y = rows(0, 300), (np.arange(300) % 3).astype(int)
    x[:, 2] = np.arange(300) % 4
    base = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 2}
    data = {"data": x, "label": y, "feature_name": list(NAMES)}
    multi = lightgbm.train({**base, "objective": "multiclass", "num_class": 3}, lightgbm.Dataset(**data), 2)
    refused(multi.model_to_string(), "several outputs")
    regression = lightgbm.train({**base, "objective": "regression"}, lightgbm.Dataset(**data), 2)
    refused(regression.model_to_string(), "not a log-odds")
    refused(booster(sigmoid=2.0).model_to_string(), "not a log-odds")
    refused(booster(boosting="rf", bagging_freq=1, bagging_fraction=0.5).model_to_string(), "not a log-odds")
    refused(booster(linear_tree=True).model_to_string(), "linear leaves")
    labels = {"data": x, "label": (x[:, 2] % 2 == 0).astype(int), "feature_name": list(NAMES)}
    categorical = lightgbm.train({**base, "objective": "binary"}, lightgbm.Dataset(**labels, categorical_feature=["c"]), 2)
    refused(categorical.model_to_string(), "categorical|not supported")


def test_damaged_texts_are_refused() -> None:
    text = booster().model_to_string()
    refused(text, "other features", ("a", "b", "c", "e", "d"))
    refused(text[: len(text) // 2], "whole LightGBM model")
    refused("hello", "whole LightGBM model")
    refused(text.replace("Tree=3\n", "Leaf=3\n"), "trees where its header says|damaged")
    refused(text.replace("leaf_value=", "leaf_value=nan ", 1), "damaged")
    refused(text.replace("threshold=", "threshold=x", 1), "damaged")
    refused(text.replace("left_child=1 ", "left_child=0 ", 1), "damaged|two parents")
    refused(text.replace("left_child=", "left_child=99 ", 1), "damaged")


@given(st.integers(0, 10_000), st.data())
def test_cut_or_changed_texts_never_crash_otherwise(seed: int, data: st.DataObject) -> None:
    text = _TEXT
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.sampled_from(["", "9", "-", "x", "\n", "=", " ", "e"])) + text[place + 1 :]
    try:
        scorer = TreeScorer.parse(changed, NAMES)
    except ArtifactError:
        return
    assert isinstance(scorer.score(dict.fromkeys(NAMES, float(seed))), float)


_TEXT = booster(num_leaves=4).model_to_string()


def test_an_absent_feature_is_named() -> None:
    for scorer in (TreeScorer.parse(booster().model_to_string(), NAMES), linear()):
        with pytest.raises(ArtifactError, match="'a'"):
            scorer.score({"b": 1.0, "c": 1.0, "d": 1.0, "e": 1.0})


# -- linear -----------------------------------------------------------------------------------------------------------------


def linear(**changes: Any) -> LinearScorer:
    values: dict[str, Any] = {
        "names": NAMES,
        "weights": (1.0, -2.0, 0.5, 0.0, 0.25),
        "means": (0.0, 1.0, 2.0, 3.0, 4.0),
        "scales": (1.0, 2.0, 1.0, 1.0, 0.5),
        "fills": (0.0, 1.0, 2.0, 3.0, 4.0),
        "intercept": -0.5,
    }
    return LinearScorer(**{**values, **changes})


def test_linear_equals_scikit_learn() -> None:
    x = np.nan_to_num(rows(3, 300))
    means, scales = x.mean(axis=0), x.std(axis=0)
    y = (x[:, 0] > 0).astype(int)
    model = LogisticRegression().fit((x - means) / scales, y)
    scorer = LinearScorer(
        NAMES, *(tuple(map(float, c)) for c in (model.coef_[0], means, scales, means)), intercept=float(model.intercept_[0])
    )
    expected = model.decision_function((x - means) / scales)
    for row, value in zip(x, expected, strict=True):
        assert scorer.score(as_features(row)) == pytest.approx(value, abs=1e-9)


def test_linear_reads_missing_as_its_fill_and_adds_the_weight_of_missing() -> None:
    full: dict[str, float | None] = dict(zip(NAMES, (1.0, 3.0, 2.0, 9.0, 4.0), strict=True))
    assert linear().score(full) == pytest.approx(-0.5 + 1.0 - 2.0)
    gone = {**full, "a": None}
    assert linear().score(gone) == pytest.approx(-0.5 - 2.0)
    assert linear(missing_weights=(0.75, 1.0, 1.0, 1.0, 1.0)).score(gone) == pytest.approx(-0.5 - 2.0 + 0.75)
    assert linear().score({**full, "a": math.nan}) == linear().score(gone)


@pytest.mark.parametrize(
    "changes", [{"weights": (1.0,)}, {"scales": (1.0, 0.0, 1.0, 1.0, 1.0)}, {"intercept": math.nan}, {"names": ("a",) * 5}]
)
def test_impossible_linear_models_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="linear model"):
        linear(**changes)


def test_linear_survives_json() -> None:
    for scorer in (linear(), linear(missing_weights=(0.1,) * 5)):
        assert LinearScorer.from_json(scorer.to_json()) == scorer
    for damage in ({}, None, {**linear().to_json(), "weights": ["x"]}):
        with pytest.raises(ArtifactError, match="linear model"):
            LinearScorer.from_json(damage)


# -- calibration ------------------------------------------------------------------------------------------------------------

rising = st.lists(st.floats(-20, 20), min_size=1, max_size=8, unique=True).map(sorted)
slopes = st.floats(0, 50)


@st.composite
def isotonics(draw: st.DrawFn) -> Calibration:
    margins = draw(rising)
    made = draw(st.sampled_from([Calibration.isotonic, Calibration.venn_abers]))
    return made(margins, sorted(draw(st.floats(0, 1)) for _ in margins))


calibrations = st.one_of(
    st.just(Calibration.identity()),
    st.builds(Calibration.platt, slopes, st.floats(-20, 20)),
    st.builds(Calibration.beta, slopes, slopes, st.floats(-20, 20)),
    isotonics(),
)
margins = st.one_of(st.floats(-50, 50), st.floats(allow_nan=False))


@given(calibrations, margins, margins)
def test_calibration_rises_and_stays_a_probability(calibration: Calibration, a: float, b: float) -> None:
    low, high = sorted((a, b))
    p, q = calibration.probability(low), calibration.probability(high)
    assert SMALLEST <= p <= 1 - SMALLEST
    assert q >= p or q == pytest.approx(p, abs=1e-12)


@given(calibrations)
def test_calibration_survives_json(calibration: Calibration) -> None:
    assert Calibration.from_json(calibration.to_json()) == calibration


def test_calibrations_by_hand() -> None:
    assert Calibration.identity().probability(0.0) == 0.5
    assert Calibration.platt(2.0, -1.0).probability(1.5) == pytest.approx(1 / (1 + math.exp(-2.0)))
    s = sigmoid(0.7)
    raw = 1.5 * math.log(s) - 0.5 * math.log(1 - s) + 0.2
    assert Calibration.beta(1.5, 0.5, 0.2).probability(0.7) == pytest.approx(sigmoid(raw))
    assert Calibration.beta(1.0, 1.0, 0.0).probability(-3.0) == pytest.approx(sigmoid(-3.0))
    steps = Calibration.isotonic([0.0, 1.0, 3.0], [0.1, 0.3, 0.9])
    assert [steps.probability(m) for m in (-9, 0.0, 0.5, 1.0, 2.0, 9)] == pytest.approx([0.1, 0.1, 0.2, 0.3, 0.6, 0.9])


def test_isotonic_equals_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    m = rng.normal(size=200)
    model = IsotonicRegression(out_of_bounds="clip", y_min=0.0, y_max=1.0).fit(m, rng.random(200) < 1 / (1 + np.exp(-m)))
    calibration = Calibration.isotonic(model.X_thresholds_, model.y_thresholds_)
    for margin in rng.normal(size=200) * 2:
        expected = min(max(float(model.predict([margin])[0]), SMALLEST), 1 - SMALLEST)
        assert calibration.probability(float(margin)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Calibration("spline"),
        lambda: Calibration("platt", (1.0,)),
        lambda: Calibration.platt(-1.0, 0.0),
        lambda: Calibration.platt(math.nan, 0.0),
        lambda: Calibration.beta(1.0, -1.0, 0.0),
        lambda: Calibration.isotonic([], []),
        lambda: Calibration.isotonic([0.0, 0.0], [0.1, 0.2]),
        lambda: Calibration.isotonic([0.0, 1.0], [0.2, 0.1]),
        lambda: Calibration.isotonic([0.0, 1.0], [0.2, 1.1]),
        lambda: Calibration.from_json({"kind": "platt"}),
        lambda: Calibration.identity().probability(math.nan),
    ],
)
def test_impossible_calibrations_are_refused(build: Any) -> None:
    with pytest.raises(ArtifactError):
        build()
