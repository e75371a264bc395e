"""Log-probs as ranks: monotone, exact on the grid, and learned online."""

from __future__ import annotations

import json
import math
import random
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.errors import ArtifactError, DataError
from coderl_gate.quantiles import (
    GRID_POINTS,
    LOGPROB_NAMES,
    MIN_VALUES,
    LogprobSummary,
    OnlineQuantiles,
    QuantileTable,
    reference_table,
)

logprobs = st.floats(-30, 0)
columns = st.lists(logprobs, min_size=MIN_VALUES, max_size=80)


def table(values: list[float], name: str = "mean") -> QuantileTable:
    return QuantileTable.of("g", {name: values})


def summary(rng: random.Random, shift: float = 0.0) -> LogprobSummary:
    made = LogprobSummary.of([-rng.expovariate(1.0) + shift for _ in range(rng.randint(1, 12))])
    assert made is not None
    return made


@given(columns, logprobs, logprobs)
def test_quantiles_rise_within_bounds(values: list[float], a: float, b: float) -> None:
    t = table(values)
    low, high = (t.quantile("mean", value) for value in sorted((a, b)))
    assert low is not None
    assert high is not None
    assert 0.0 <= low <= high <= 1.0
    assert t.quantile("mean", -31.0) == 0.0
    assert t.quantile("mean", 1.0) == 1.0


@given(columns)
def test_the_grid_is_numpys(values: list[float]) -> None:
    grid = table(values).grids["mean"]
    assert len(grid) == GRID_POINTS
    assert grid == pytest.approx(np.percentile(values, range(101)), abs=1e-9)


@given(st.lists(logprobs, min_size=GRID_POINTS, max_size=GRID_POINTS, unique=True), st.integers(0, 99), st.floats(0, 1))
def test_a_rank_read_back_is_the_rank(values: list[float], place: int, part: float) -> None:
    t = table(values)
    low, high = t.grids["mean"][place], t.grids["mean"][place + 1]
    rank = t.quantile("mean", low + part * (high - low))
    if high - low > 1e-6:
        assert rank == pytest.approx((place + part) / 100, abs=1e-6)


def test_ties_take_the_middle_rank() -> None:
    t = table([-1.0] * 50 + [0.0] * 51)
    assert t.quantile("mean", -1.0) == pytest.approx(0.245)
    assert t.quantile("mean", 0.0) == pytest.approx(0.75)
    assert t.quantile("mean", -0.5) == pytest.approx(0.495, abs=0.01)


@given(columns, st.floats(0.1, 5), st.floats(-3, 3), logprobs)
def test_a_generator_that_is_only_scaled_differently_gives_the_same_ranks(
    values: list[float], scale: float, shift: float, value: float
) -> None:
    one, other = table(values), table([scale * v + shift for v in values])
    a, b = one.quantile("mean", value), other.quantile("mean", scale * value + shift)
    grid = one.grids["mean"]
    if min((abs(value - g) for g in grid), default=1) > 1e-6:  # on a tie the two may fall on different sides by rounding
        assert a == pytest.approx(b, abs=1e-5)


def test_missing_stays_missing() -> None:
    t = table([-1.0] * 40)
    assert t.quantile("lowest", -1.0) is None
    assert t.quantile("mean", None) is None
    assert QuantileTable.of("g", {"mean": [None, -1.0] * 40, "first": [None] * 80}).grids.keys() == {"mean"}
    with pytest.raises(DataError, match="Fewer than 30"):
        table([-1.0] * 29)


@given(columns)
def test_tables_survive_json(values: list[float]) -> None:
    t = table(values)
    assert QuantileTable.from_json(json.loads(json.dumps(t.to_json()))) == t


@pytest.mark.parametrize(
    "damage",
    [
        None,
        {},
        {"generator_id": "g", "n": 1, "grids": {"mean": [0.0, 1.0]}},
        {"generator_id": "g", "n": 1, "grids": {"mean": [0.0] * 100 + [-1.0]}},
        {"generator_id": "g", "n": 1, "grids": {"mean": [0.0] * 100 + [math.nan]}},
        {"generator_id": "g", "n": 1, "grids": {"speed": [0.0] * 101}},
        {"generator_id": "g", "n": 1, "grids": {"mean": ["x"] * 101}},
    ],
)
def test_damaged_tables_are_refused(damage: object) -> None:
    with pytest.raises(ArtifactError):
        QuantileTable.from_json(damage)


def test_summary_by_hand() -> None:
    assert LogprobSummary.of([]) is None
    assert LogprobSummary.of([-0.5, -2.0, -0.5]) == LogprobSummary(-1.0, -2.0, -0.5, -3.0, 3, math.sqrt(0.5))
    alone = LogprobSummary.of([-0.5])
    assert alone is not None
    assert alone.spread is None  # one token spreads over nothing
    impossible = LogprobSummary.of([-0.5, -math.inf])
    assert impossible is not None
    assert (impossible.lowest, impossible.spread) == (-math.inf, None)
    assert table([-1.0] * 40, "lowest").quantile("lowest", impossible.lowest) == 0.0
    with pytest.raises(DataError, match="not a number"):
        LogprobSummary.of([-0.5, math.nan])


def test_an_unknown_generator_has_no_table_until_enough_was_seen() -> None:
    rng = random.Random(1)
    online = OnlineQuantiles("new", random.Random(2))
    for _ in range(MIN_VALUES - 1):
        online.add(summary(rng))
        assert online.table() is None
    online.add(summary(rng))
    made = online.table()
    assert made is not None
    assert made.generator_id == "new"
    assert made.grids.keys() == set(LOGPROB_NAMES) - {"spread"}  # these summaries do not know it


def test_a_known_generator_starts_from_its_reference_and_moves_to_what_it_really_does() -> None:
    rng = random.Random(1)
    values = [summary(rng).mean for _ in range(500)]
    reference = QuantileTable.of("g", {"mean": values})
    online = OnlineQuantiles("g", random.Random(2), reference)
    assert online.table() is reference
    shifted = [summary(rng, shift=-3.0) for _ in range(3000)]
    target = QuantileTable.of("g", {"mean": [s.mean for s in shifted]}).grids["mean"]
    distances = []
    for place, item in enumerate(shifted):
        online.add(item)
        if place in (99, 999, 2999):
            made = online.table()
            assert made is not None
            distances.append(abs(made.grids["mean"][50] - target[50]))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.1 * abs(reference.grids["mean"][50] - target[50])


def test_memory_is_bounded_and_the_sample_is_uniform_over_the_whole_stream() -> None:
    online = OnlineQuantiles("g", random.Random(3), capacity=200)
    for place in range(10_000):
        online.add(LogprobSummary(-place / 10_000, None, None, None, 1))
    made = online.table()
    assert made is not None
    assert made.grids.keys() == {"mean"}
    assert made.grids["mean"][50] == pytest.approx(-0.5, abs=0.12)  # 3 standard errors of a median of 200
    assert made.grids["mean"][0] == pytest.approx(-1.0, abs=0.05)


def test_same_seed_same_table() -> None:
    def run() -> QuantileTable | None:
        rng, online = random.Random(7), OnlineQuantiles("g", random.Random(8), capacity=50)
        for _ in range(300):
            online.add(summary(rng))
        return online.table()

    assert run() == run()


def test_every_shipped_reference_loads_under_its_own_name() -> None:
    folder = resources.files("coderl_gate").joinpath("reference")
    names = [item.name.removesuffix(".json") for item in folder.iterdir()] if folder.is_dir() else []
    if not names:
        pytest.skip("no reference quantiles are shipped yet (they are measured with `coderl simulate`)")
    for name in names:
        shipped = reference_table(name)
        assert shipped is not None
        assert shipped.generator_id == name
        assert shipped.n >= MIN_VALUES


def test_reference_of_an_unknown_or_odd_name_is_none() -> None:
    for name in ("no-such-model", "", "../default/artifact", "a/b"):
        assert reference_table(name) is None
