"""Cost parameters from logs whose true parameters are known."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate import cups
from coderl_gate.costs import CostParameters, costs_of
from coderl_gate.dataset import CLIP_S, Dataset, Selection, build
from coderl_gate.errors import DataError
from coderl_gate.policy import Policy, Rule
from coderl_gate.synthetic import World, knowing
from coderl_gate.timing import TYPING_RANGE, fit_costs
from coderl_store.records import Origin

TRUTH = CostParameters(verify_base_s=0.8, verify_s_per_char=0.03, edit_share=0.2)


def logged(users: int = 4, per_user: int = 60) -> Dataset:
    world = World(users=users, requests_per_user=per_user, origin=Origin.SIMULATED)
    requests = world.requests(knowing(), Policy(0.5, rule=Rule.ALWAYS_SHOW), TRUTH)
    return build(requests, Selection(frozenset({Origin.SIMULATED})))


def test_parameters_come_back() -> None:
    fit = fit_costs(logged())
    assert fit.parameters.verify_base_s == pytest.approx(0.8, rel=1e-4)
    assert fit.parameters.verify_s_per_char == pytest.approx(0.03, rel=1e-4)
    assert fit.parameters.edit_share == pytest.approx(0.2, rel=1e-4)
    assert fit.parameters.typing_chars_per_s == pytest.approx(5.0)  # the log's keystrokes are 200 ms apart
    assert fit.parameters.expected_chars == pytest.approx(logged().chars.mean(), rel=1e-4)
    assert fit.not_estimated == ("Thinking time per line keeps its prior: no log shows it.",)


def test_what_cannot_be_estimated_keeps_its_prior_and_is_said() -> None:
    dataset = logged()
    blind = replace(
        dataset,
        reading_s=np.full(len(dataset), np.nan),
        edited=np.full(len(dataset), np.nan),
        typing_chars_per_s=np.full(len(dataset), np.nan),
    )
    prior = CostParameters(verify_base_s=0.123, typing_chars_per_s=7.0, edit_share=0.3)
    fit = fit_costs(blind, prior)
    assert (fit.parameters.verify_base_s, fit.parameters.typing_chars_per_s, fit.parameters.edit_share) == (0.123, 7.0, 0.3)
    assert len(fit.not_estimated) == 4


def test_typing_speed_is_the_geometric_mean_of_the_users_and_impossible_speeds_are_cut() -> None:
    dataset = logged(users=3)
    speeds = np.select([dataset.users == "user-0", dataset.users == "user-1"], [3.0, 5.0], 40.0)
    fit = fit_costs(replace(dataset, typing_chars_per_s=speeds))
    assert fit.parameters.typing_chars_per_s == pytest.approx((3.0 * 5.0 * TYPING_RANGE[1]) ** (1 / 3), rel=1e-3)
    own = [fit.personal[f"user-{user}"].values["typing_chars_per_s"] for user in range(3)]
    assert own == pytest.approx([3.0, 5.0, TYPING_RANGE[1]], rel=1e-3)


def test_falling_times_give_a_flat_line() -> None:
    dataset = logged()
    fit = fit_costs(replace(dataset, reading_s=np.maximum(0.1, 5 - 0.05 * dataset.chars)))
    assert fit.parameters.verify_s_per_char == 0.0
    assert fit.parameters.verify_base_s > 0


@given(st.integers(0, 10_000))
def test_parameters_are_always_usable(seed: int) -> None:
    """`CostParameters` refuses negative numbers; whatever the times are, the fit must not produce them."""
    rng = np.random.default_rng(seed)
    n = 40
    dataset = replace(
        DATASET, chars=rng.integers(1, 200, n).astype(float), reading_s=rng.exponential(2, n), weight=rng.uniform(1, 20, n)
    )
    parameters = fit_costs(dataset).parameters
    assert min(getattr(parameters, field.name) for field in fields(parameters)) >= 0.0


DATASET = logged(users=1, per_user=40)


@dataclass(frozen=True)
class Lived:
    """A world of programmers who differ, read unevenly and also do other things, as a data set; and their true parameters."""

    dataset: Dataset
    truths: dict[str, CostParameters]


def lived(elsewhere: float, *, users: int = 14, per_user: int = 150, seed: int = 0) -> Lived:
    rng = np.random.default_rng(seed)
    truths = {
        f"user-{user}": CostParameters(
            verify_base_s=0.6 * reading,
            verify_s_per_char=0.02 * reading,
            typing_chars_per_s=float(4.5 * np.exp(rng.normal(0, 0.35))),
            edit_share=float(rng.beta(3, 20)),
        )
        for user in range(users)
        for reading in (float(np.exp(rng.normal(0, 0.25))),)
    }
    world = World(users=users, requests_per_user=per_user, seed=seed, origin=Origin.SIMULATED)
    requests = []
    for request in world.requests(knowing(), Policy(0.5, rule=Rule.ALWAYS_SHOW), TRUTH):
        truth = truths[request.session.user_key]
        assert request.suggestion is not None
        assert request.outcome is not None
        read_s = rng.gamma(2.0, costs_of(request.suggestion.chars, request.suggestion.lines, truth).t_verify_s / 2.0)
        read_s += rng.exponential(20.0) if rng.random() < elsewhere else 0.0
        share = 1.0 - rng.beta(40 * truth.edit_share, 40 * (1 - truth.edit_share))
        requests.append(
            replace(
                request,
                context=replace(
                    request.context, typing_interval_ms=1000 / truth.typing_chars_per_s * float(np.exp(rng.normal(0, 0.3)))
                ),
                outcome=replace(request.outcome, visible_ms=1000 * read_s),
                survival=tuple(replace(look, share=share) for look in request.survival),
            )
        )
    return Lived(build(requests, Selection(frozenset({Origin.SIMULATED}))), truths)


@pytest.mark.parametrize("elsewhere", [0.1, 0.2])
def test_every_programmer_comes_back_through_times_that_contain_something_else(elsewhere: float) -> None:
    world = lived(elsewhere)
    fit = fit_costs(world.dataset)
    own = {user: fit.parameters.of(fit.personal[user].values) for user in world.truths}
    assert fit.elsewhere == pytest.approx(elsewhere, abs=0.04)
    for value_of, population_rel, own_rel in (
        (lambda parameters: costs_of(40, 1, parameters).t_verify_s, 0.1, 0.12),
        (lambda parameters: parameters.typing_chars_per_s, 0.15, 0.05),
        (lambda parameters: parameters.edit_share, 0.15, 0.15),
    ):
        truth = np.array([value_of(world.truths[user]) for user in world.truths])
        mine = np.array([value_of(own[user]) for user in world.truths])
        assert value_of(fit.parameters) == pytest.approx(truth.mean(), rel=population_rel)
        assert np.abs(mine / truth - 1).mean() < own_rel
        apart = np.abs(value_of(fit.parameters) - truth).mean()
        assert np.abs(mine - truth).mean() < 0.6 * apart  # knowing the programmer is worth something


def test_clipping_alone_would_be_wrong() -> None:
    """Why there is a mixture: the clipped mean is off by half and more where one time in six holds something else."""
    world = lived(1 / 6)
    truth = float(np.mean([costs_of(40, 1, parameters).t_verify_s for parameters in world.truths.values()]))
    near = np.abs(world.dataset.chars - 40) < 15
    assert float(world.dataset.reading_s[near].mean()) > 1.5 * truth
    assert costs_of(40, 1, fit_costs(world.dataset).parameters).t_verify_s == pytest.approx(truth, rel=0.12)


def test_intervals_hold_the_truth_most_of_the_time() -> None:
    inside = []
    for seed in range(12):
        world = lived(0.0, per_user=60, seed=seed)
        fit = fit_costs(world.dataset)
        for user, own in fit.personal.items():
            inside += [low <= getattr(world.truths[user], name) <= high for name, (low, high) in own.intervals.items()]
        for name, (low, high) in fit.intervals.items():
            assert low <= getattr(fit.parameters, name) <= high
    assert 0.85 <= np.mean(inside) <= 0.99


def test_few_rows_stay_near_the_population_and_no_rows_are_the_population() -> None:
    dataset = lived(0.1).dataset
    unknown = dataset.users == "user-3"
    some = unknown & (np.cumsum(unknown) > 3)
    fit = fit_costs(
        replace(
            dataset,
            reading_s=np.where(some, np.nan, dataset.reading_s),
            edited=np.where(unknown, np.nan, dataset.edited),
            typing_chars_per_s=np.where(unknown, np.nan, dataset.typing_chars_per_s),
        )
    )
    values = fit.personal["user-3"].values
    assert values.keys() <= {"verify_base_s", "verify_s_per_char"}
    own = fit.parameters.of(values)
    assert costs_of(40, 1, own).t_verify_s == pytest.approx(costs_of(40, 1, fit.parameters).t_verify_s, rel=0.25)


def test_the_fit_does_not_depend_on_the_order_of_rows_or_on_chance() -> None:
    dataset = lived(0.1, users=6, per_user=60).dataset
    order = np.random.default_rng(0).permutation(len(dataset))
    shuffled = replace(
        dataset,
        ids=tuple(dataset.ids[place] for place in order),
        **{item.name: value[order] for item in fields(dataset) if isinstance(value := getattr(dataset, item.name), np.ndarray)},
    )
    one, again, other = fit_costs(dataset), fit_costs(dataset), fit_costs(shuffled)
    assert one == again
    assert asdict(other.parameters) == pytest.approx(asdict(one.parameters), rel=1e-4)
    assert other.personal.keys() == one.personal.keys()


def test_the_programmers_with_most_rows_are_kept() -> None:
    dataset = lived(0.0, users=5, per_user=60).dataset
    few = (dataset.users == "user-1") & (np.cumsum(dataset.users == "user-1") > 20)
    assert set(fit_costs(dataset.take(~few), most_personal=4).personal) == {"user-0", "user-2", "user-3", "user-4"}


def test_waiting_is_the_mean_as_logged() -> None:
    waited_s = np.zeros(len(DATASET))
    waited_s[::4] = 2.0
    assert fit_costs(replace(DATASET, waited_s=waited_s)).parameters.expected_wait_s == pytest.approx(0.5)
    stuck = fit_costs(replace(DATASET, waited_s=np.full(len(DATASET), 3600.0)))
    assert stuck.parameters.expected_wait_s == CLIP_S
    assert fit_costs(replace(DATASET, waited_s=np.full(len(DATASET), np.nan))).parameters.expected_wait_s == 0.0


@pytest.mark.parametrize(
    ("name", "value"), [("reading_s", -1.0), ("reading_s", np.inf), ("waited_s", -1.0), ("edited", 1.5), ("edited", -0.1)]
)
def test_impossible_rows_are_one_sentence(name: str, value: float) -> None:
    with pytest.raises(DataError, match="leave such rows out") as caught:
        fit_costs(replace(DATASET, **{name: np.full(len(DATASET), value)}))
    assert "\n" not in str(caught.value)


@pytest.mark.cups
def test_what_the_cups_telemetry_says_of_thinking_and_of_times_to_decide(shared_data: Path) -> None:
    """The figures that `coderl_gate.timing` and docs/gate.md quote: labelled thinking per line and characters per second of
    labelled writing between two suggestions, the first not accepted, where the document grew by at most 80 characters and 3
    lines."""
    totals: dict[int, Counter[str]] = defaultdict(Counter)
    since: Counter[str] = Counter()
    before: dict[str, Any] | None = None
    for line in (shared_data / "cups" / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if before is not None and event["UserId"] != before["UserId"]:
            before, since = None, Counter()
        since[event["LabeledState"]] += min(20.0, event["TimeSpentInState"])
        since["accepted"] += event["StateName"] == "Accepted"
        if event["StateName"] != "Shown":
            continue
        writing_s = since["Writing New Functionality (Z)"] + since["Prompt Crafting (V)"]
        if before is not None and not since["accepted"] and event["Task"] == before["Task"] and writing_s > 0:
            grown = event["Measurements"]["documentLength"] - before["Measurements"]["documentLength"]
            lines = event["CurrentPrompt"].count("\n") - before["CurrentPrompt"].count("\n")
            if 0 < grown <= 80 and 0 <= lines <= 3:
                thinking_s = since["Thinking About New Code To Write (F)"]
                totals[event["UserId"]].update(
                    {"chars": grown, "writing_s": writing_s, "thinking_s": thinking_s, "lines": lines}
                )
        before, since = event, Counter()
    users = np.array([[total[name] for name in ("chars", "writing_s", "thinking_s", "lines")] for total in totals.values()])
    rng = np.random.default_rng(0)
    drawn = users[rng.integers(0, len(users), (2000, len(users)))].sum(axis=1)
    for over, under, value, low, high in ((2, 3, 2.26, 0.7, 4.8), (0, 1, 2.25, 2.0, 2.6)):
        assert users[:, over].sum() / users[:, under].sum() == pytest.approx(value, abs=0.01)
        assert np.quantile(drawn[:, over] / drawn[:, under], [0.025, 0.975]) == pytest.approx([low, high], abs=0.15)
    rejections_s = [
        request.outcome.visible_ms / 1000
        for request in cups.read(shared_data / "cups").requests
        if request.outcome is not None and not request.outcome.kept and request.outcome.visible_ms is not None
    ]
    assert np.quantile(rejections_s, [0.5, 0.9]) == pytest.approx([3.5, 30.3], abs=0.1)
