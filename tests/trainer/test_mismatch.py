"""Truncated importance weights between two programs with the same weights."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.mismatch import corrected, mismatch

from .tiny_llama import datum

LOGPROB = st.floats(-8.0, 0.0)
PAIRS = st.lists(st.tuples(LOGPROB, LOGPROB), min_size=1, max_size=6)


@given(PAIRS, st.floats(1.0, 5.0), st.floats(-2.0, 2.0))
def test_advantages_are_weighted_by_the_capped_ratio(pairs: list[tuple[float, float]], cap: float, advantage: float) -> None:
    server, engine = zip(*pairs, strict=True)
    row = datum((1, 2, 3), tuple(range(len(pairs))), advantage=advantage, behaviour=server)
    got = corrected(row, engine, cap)
    assert got.behaviour_logprobs[2:] == pytest.approx(engine)
    assert got.advantages[2:] == pytest.approx([advantage * min(math.exp(e - s), cap) for s, e in pairs])
    assert got.advantages[:2] == row.advantages[:2]
    assert (got.input_tokens, got.target_tokens, got.mask, got.weight) == (row.input_tokens, row.target_tokens, row.mask, 1.0)
    found = mismatch([row], [engine], cap)
    assert found.mean == pytest.approx(sum(abs(e - s) for s, e in pairs) / len(pairs))
    assert found.largest == pytest.approx(max(abs(e - s) for s, e in pairs))
    assert found.mean_weight == pytest.approx(sum(min(math.exp(e - s), cap) for s, e in pairs) / len(pairs))
    assert found.truncated == sum(e - s >= math.log(cap) for s, e in pairs) / len(pairs)


@given(PAIRS)
def test_without_a_cap_the_server_stays_the_behaviour_policy(pairs: list[tuple[float, float]]) -> None:
    server, engine = zip(*pairs, strict=True)
    row = datum((1,), tuple(range(len(pairs))), behaviour=server)
    assert corrected(row, engine, 0.0) is row
    assert mismatch([row], [engine], 0.0).mean_weight == 1.0
    assert mismatch([row], [engine], 0.0).truncated == 0.0


def test_tokens_that_do_not_count_are_left_alone() -> None:
    row = datum((1, 2), (3, 4, 5), behaviour=(-1.0, -2.0, -3.0), mask=(1.0, 0.0, 1.0))
    got = corrected(row, (-1.5, -2.5), 3.0)
    assert got.behaviour_logprobs == (0.0, -1.5, 0.0, -2.5)
    assert got.advantages == pytest.approx((0.0, math.exp(-0.5), 0.0, math.exp(0.5)))


def test_no_token_is_no_mismatch() -> None:
    found = mismatch([], [], 3.0)
    assert (found.mean, found.largest, found.mean_weight, found.truncated) == (0.0, 0.0, 1.0, 0.0)
