from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_store.records import OutcomeKind
from coderl_trainer.engine import Loss, Normalisation
from coderl_trainer.errors import FeedbackError, TooFewEffective
from coderl_trainer.feedback import (
    Baseline,
    Learning,
    Method,
    Objective,
    datum_of,
    drift,
    feedback,
    loss_settings,
    truncated_weights,
)
from coderl_trainer.logged import LoggedRow, rows_from_log

from .logged_requests import Requests

ANY = {"least_effective": 0.0, "least_share": 0.0, "centred": False}
PROPENSITIES = st.lists(st.floats(1e-300, 1.0), min_size=1, max_size=200)


def row(kept: bool = True, **changes: Any) -> LoggedRow:
    made = Requests()
    kind = OutcomeKind.ACCEPTED if kept else OutcomeKind.DISMISSED
    (one,) = rows_from_log([made.one(kind)], made.codec).rows
    return replace(one, **changes)


@given(PROPENSITIES, st.floats(1.0, 1e6))
def test_weights_are_truncated_inverse_propensities(propensities: list[float], limit: float) -> None:
    weights, effective = truncated_weights(propensities, limit)
    for weight, propensity in zip(weights.tolist(), propensities, strict=True):
        assert 1.0 <= weight <= limit or weight == limit
        assert weight == limit or weight == pytest.approx(1 / propensity)
    assert effective.rows == len(propensities)
    assert effective.truncated == sum(1 / propensity > limit for propensity in propensities) / len(propensities)


@given(PROPENSITIES, st.floats(1.0, 1e6))
def test_effective_rows_lie_between_one_and_all(propensities: list[float], limit: float) -> None:
    weights, effective = truncated_weights(propensities, limit)
    assert 1.0 - 1e-9 <= effective.effective <= len(propensities) * (1 + 1e-9)
    total, squares = math.fsum(weights), math.fsum(weight * weight for weight in weights)
    assert effective.effective == pytest.approx(total * total / squares)
    assert 0.0 < effective.share <= 1 + 1e-9


@given(st.floats(1e-6, 1.0), st.integers(1, 50))
def test_equal_propensities_lose_nothing(propensity: float, count: int) -> None:
    _, effective = truncated_weights([propensity] * count)
    assert effective.effective == pytest.approx(count)


@given(PROPENSITIES, st.floats(1.0, 100.0), st.floats(1.0, 100.0))
def test_a_lower_limit_never_leaves_fewer(propensities: list[float], one: float, other: float) -> None:
    low, high = (truncated_weights(propensities, limit)[1].effective for limit in sorted((one, other)))
    assert low >= high * (1 - 1e-9)


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.5, float("nan")])
def test_impossible_propensities_are_refused(propensity: float) -> None:
    with pytest.raises(FeedbackError, match="propensity"):
        truncated_weights([1.0, propensity])


def test_too_few_effective_rows_stop() -> None:
    rows = [row(propensity=1.0)] * 200
    with pytest.raises(TooFewEffective, match=r"30 logged suggestions leave 30\.0 effective ones"):
        feedback(rows[:30])
    assert feedback(rows).weights.effective == pytest.approx(200)
    uneven = [*rows, row(propensity=1e-9)]
    with pytest.raises(TooFewEffective, match="leave"):
        feedback(uneven, Learning(max_weight=1e6, least_effective=1.0))
    assert feedback(uneven).weights.truncated == pytest.approx(1 / 201)


def test_the_advantage_is_what_was_not_expected() -> None:
    for objective, baseline, kept, expected in (
        (Objective.ACCEPTED, Baseline.CONTEXT, True, 1 - 0.4),
        (Objective.ACCEPTED, Baseline.SUGGESTION, True, 1 - 0.6),
        (Objective.ACCEPTED, Baseline.SUGGESTION, False, -0.6),
        (Objective.ACCEPTED, Baseline.NONE, False, 0.0),
    ):
        made = feedback([row(kept)], Learning(objective=objective, baseline=baseline, unit=1.0, **ANY))
        assert made.data[0].advantages[-1] == pytest.approx(expected)
    one = row(seconds=2.0, expected_s=0.5, modelled_s=1.5)
    for baseline, expected in ((Baseline.CONTEXT, 1.5), (Baseline.SUGGESTION, 0.5), (Baseline.NONE, 2.0)):
        assert feedback([one], Learning(baseline=baseline, unit=1.0, **ANY)).data[0].advantages[-1] == expected


def test_the_unit_makes_rewards_alike() -> None:
    rows = [row(seconds=seconds, expected_s=0.0, propensity=p) for seconds, p in ((30.0, 1.0), (-40.0, 0.5), (10.0, 0.25))]
    made = feedback(rows, Learning(**ANY))
    values = [(one.weight, one.advantages[-1]) for one in made.data]
    assert [weight for weight, _ in values] == [1.0, 2.0, 4.0]
    mean_square = sum(weight * value * value for weight, value in values) / sum(weight for weight, _ in values)
    assert mean_square == pytest.approx(1.0)
    tenfold = feedback([replace(one, seconds=10 * one.seconds) for one in rows], Learning(**ANY))
    assert [one.advantages for one in tenfold.data] == [pytest.approx(one.advantages) for one in made.data]
    assert feedback([row(seconds=1.0, expected_s=1.0)], Learning(**ANY)).unit == 1.0


def test_rows_without_an_estimate_are_left_out_and_counted() -> None:
    rows = [row(), row(p1=None, expected_s=None)]
    made = feedback(rows, Learning(**ANY))
    assert (len(made.data), made.without_baseline) == (1, 1)
    assert made.metrics()["logged/without_baseline"] == 1.0
    assert len(feedback(rows, Learning(baseline=Baseline.NONE, **ANY)).data) == 2
    assert len(feedback(rows, Learning(Method.KTO, Objective.ACCEPTED, **ANY)).data) == 2
    assert len(feedback(rows, Learning(Method.KTO, **ANY)).data) == 1
    with pytest.raises(FeedbackError, match="gate gave no estimate"):
        feedback(rows[1:], Learning(**ANY))


def test_a_datum_counts_the_suggestions_own_tokens() -> None:
    one = row()
    tokens = replace(one.tokens, prompt=(7, 8, 9), tokens=(1, 2, 3), logprobs=(-0.1, -0.2, -0.3), given=1)
    datum = datum_of(replace(one, tokens=tokens), 2.0, 0.5)
    assert datum.input_tokens == (7, 8, 9, 1, 2)
    assert datum.target_tokens == (8, 9, 1, 2, 3)
    assert datum.mask == (0, 0, 0, 1, 1)
    assert datum.behaviour_logprobs == (0, 0, 0, -0.2, -0.3)
    assert datum.advantages == (0, 0, 0, 2.0, 2.0)
    assert datum.weight == 0.5


def test_kto_learns_from_the_sign_and_balances() -> None:
    rows = [row(True), row(True), row(True), row(False)]
    made = feedback(rows, Learning(Method.KTO, Objective.ACCEPTED, **ANY))
    assert [one.advantages[-1] for one in made.data] == [1, 1, 1, -1]
    assert [one.weight for one in made.data] == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])
    plain = feedback(rows, Learning(Method.KTO, Objective.ACCEPTED, balance=False, **ANY))
    assert [one.weight for one in plain.data] == [1, 1, 1, 1]


def test_kto_in_seconds_weighs_what_was_saved_beyond_expectation() -> None:
    rows = [row(True, seconds=3.0), row(True, seconds=-1.0), row(False, seconds=-2.0)]
    made = feedback(rows, Learning(Method.KTO, baseline=Baseline.NONE, unit=1.0, **ANY))
    assert [one.advantages[-1] for one in made.data] == [1, -1, -1]
    assert [one.weight for one in made.data] == pytest.approx([3, 1, 2])


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(0.05, 1)), min_size=1, max_size=40))
def test_centred_advantages_average_to_nothing(pairs: list[tuple[float, float]]) -> None:
    base = row()
    rows = [replace(base, seconds=seconds, propensity=propensity) for seconds, propensity in pairs]
    made = feedback(rows, Learning(least_effective=0.0, least_share=0.0))
    assert math.fsum(one.weight * one.advantages[-1] for one in made.data) == pytest.approx(0.0, abs=1e-5 * len(rows))


def test_each_method_has_its_loss_and_every_token_weighs_the_same() -> None:
    losses = {method: loss_settings(method) for method in Method}
    assert [losses[method].loss for method in Method] == [Loss.IMPORTANCE_SAMPLING, Loss.DRO, Loss.KTO]
    assert {settings.normalisation for settings in losses.values()} == {Normalisation.TOKENS}


def test_a_policy_far_from_the_log_stops() -> None:
    made = feedback([row()] * 60)
    same = [[-0.5, -1.5]] * 60
    assert drift(made.data, same).share == pytest.approx(1.0)
    far = [[-30.0, -1.5]] * 59 + [[-0.5, -0.1]]
    with pytest.raises(TooFewEffective, match="moved away"):
        drift(made.data, far)
    assert drift(made.data, far, least_share=0.0).truncated == pytest.approx(1 / 60)
    with pytest.raises(FeedbackError, match="60 training rows"):
        drift(made.data, same[:1])


@pytest.mark.parametrize("wrong", [{"max_weight": 0.5}, {"least_share": 2.0}, {"least_effective": -1.0}, {"unit": 0.0}])
def test_limits_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(FeedbackError):
        Learning(**wrong)  # type: ignore[arg-type]
