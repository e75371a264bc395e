"""What a model solves: pass@k against enumeration, intervals, exact answers and parts."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coderl_trainer.errors import FigureError
from coderl_trainer.solve_rates import Tries, default_ks, rates_of, solve_rates
from coderl_trainer.statistics import share

COUNTS = st.integers(0, 6).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


def tries(counts: list[tuple[int, int]]) -> list[Tries]:
    return [
        Tries(
            f"t{index}", n, correct, tier=["", "easy", "hard"][index % 3], answer_chars=None if index % 4 == 3 else 30 * index
        )
        for index, (n, correct) in enumerate(counts)
    ]


@settings(max_examples=25)
@given(counts=st.lists(COUNTS, max_size=6), k=st.integers(1, 6))
def test_pass_at_k_is_the_mean_over_tasks_of_the_share_of_all_draws(counts: list[tuple[int, int]], k: int) -> None:
    found = rates_of(tries(counts), [k])
    shares = []
    for n, correct in counts:
        if n >= k:
            draws = list(itertools.combinations([True] * correct + [False] * (n - correct), k))
            shares.append(sum(map(any, draws)) / len(draws))
    assert found.n == sum(n > 0 for n, _ in counts)
    if not shares:
        assert k not in found.pass_at_k
        return
    interval = found.pass_at_k[k]
    assert interval.estimate == pytest.approx(sum(shares) / len(shares))
    assert math.isnan(interval.low) or interval.low <= interval.estimate + 1e-12
    assert math.isnan(interval.high) or interval.high >= interval.estimate - 1e-12


def test_one_answer_per_task_has_wilsons_interval() -> None:
    found = rates_of(tries([(1, 1), (1, 0), (1, 1), (0, 0)]), [1])
    assert found.pass_at_k[1] == share(2, 3)


def test_the_interval_draws_problems_not_tasks() -> None:
    apart = [Tries(f"t{index}", 2, 2 * (index % 2)) for index in range(40)]
    together = [Tries(f"t{index}", 2, 2 * (index // 10 % 2), problem=f"p{index // 10}") for index in range(40)]
    widths = [
        (lambda interval: interval.high - interval.low)(rates_of(some, [1], seed=1).pass_at_k[1]) for some in (apart, together)
    ]
    assert widths[1] > 2 * widths[0]


def test_parts_hold_their_own_tasks_and_exact_counts_all_samples_asked() -> None:
    made = [
        Tries("a", 2, 2, exact=1, asked=4, kind="infill", tier="easy", answer_chars=10),
        Tries("b", 2, 0, exact=0, kind="function", tier="hard", answer_chars=400),
        Tries("c", 0, 0, exact=1, asked=1, kind="infill"),
    ]
    found = solve_rates(made)
    assert found.overall.exact == pytest.approx((0.25 + 0 + 1) / 3)
    assert {name: part.n for name, part in found.by_kind.items()} == {"function": 1, "infill": 1}
    assert {name: part.pass_at_k[1].estimate for name, part in found.by_tier.items()} == {"easy": 1.0, "hard": 0.0}
    assert list(found.by_length) == ["0–20 chars", "over 320 chars"]
    assert found.overall.to_json()["pass_at_k"]["1"]["estimate"] == 0.5


def test_the_usual_k_are_those_that_every_judged_task_has_samples_for() -> None:
    assert default_ks([Tries("a", 10, 1), Tries("b", 7, 1), Tries("c", 0, 0)]) == (1, 5)
    assert default_ks([]) == (1,)


def test_a_task_that_stands_twice_and_impossible_counts_are_refused() -> None:
    with pytest.raises(FigureError, match="stands twice"):
        solve_rates([Tries("a", 1, 1), Tries("a", 1, 0)])
    with pytest.raises(FigureError, match="3 correct of 2"):
        rates_of([Tries("a", 2, 3)], [1])
