from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.packing import packed
from coderl_trainer.types import Datum

from .tiny_llama import datum

TOKEN = st.integers(0, 3)
PROMPTS = st.lists(TOKEN, min_size=1, max_size=4).map(tuple)


@st.composite
def rows(draw: st.DrawFn) -> Datum:
    prompt = draw(st.sampled_from([(1, 2, 3), (1, 2), (3,)]) | PROMPTS)
    tokens = tuple(draw(st.lists(TOKEN, min_size=1, max_size=5)))
    mask = tuple(draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(tokens), max_size=len(tokens))))
    return datum(prompt, tokens, mask=mask)


BATCH = st.lists(rows(), max_size=8)


@given(BATCH, st.integers(1, 24))
def test_every_counted_target_is_predicted_once(batch: list[Datum], most: int) -> None:
    found: list[tuple[int, int, int]] = []
    for pack in packed(batch, most):
        for target, (branch, at) in zip(pack.targets_N, pack.places_N, strict=True):
            found.append((pack.rows[branch], at, target))
    expected = []
    for index, row in enumerate(batch):
        counted = [target for target, counts in zip(row.target_tokens, row.mask, strict=True) if counts]
        expected += [(index, at, target) for at, target in enumerate(counted)]
    assert sorted(found) == expected


@given(BATCH, st.integers(1, 24))
def test_each_prediction_sees_its_own_row_up_to_there_and_nothing_else(batch: list[Datum], most: int) -> None:
    for pack in packed(batch, most):
        allowed = pack.allowed()
        for source, (branch, at) in zip(pack.sources_N, pack.places_N, strict=True):
            row = batch[pack.rows[branch]]
            position = [index for index, counts in enumerate(row.mask) if counts][at]
            seen = np.flatnonzero(allowed[source])
            assert tuple(pack.tokens_L[index] for index in seen) == row.input_tokens[: position + 1]
            assert [pack.positions_L[index] for index in seen] == list(range(position + 1))
            # What is seen on the way there sees the same: hidden states are those of the row alone.
            for count, index in enumerate(seen, 1):
                assert np.flatnonzero(allowed[index]).tolist() == seen[:count].tolist()


@given(BATCH, st.integers(1, 24))
def test_packs_are_no_longer_than_asked_unless_one_row_is(batch: list[Datum], most: int) -> None:
    for pack in packed(batch, most):
        longest = max(len(batch[row].input_tokens) for row in pack.rows)
        assert len(pack.tokens_L) <= max(most, longest)


@given(BATCH)
def test_a_prompt_is_there_once(batch: list[Datum]) -> None:
    packs = packed(batch, 10_000)
    counted = [row for row in batch if any(row.mask)]
    assert len(packs) == bool(counted)
    prompts = {row.input_tokens[: row.mask.index(1.0) + 1] for row in counted}
    own = sum(len(row.input_tokens) - row.mask.index(1.0) - 1 for row in counted)
    assert sum(len(pack.tokens_L) for pack in packs) == sum(map(len, prompts)) + own


def test_a_family_that_fits_is_not_taken_apart() -> None:
    one = [datum((1, 2), (3, 3)), datum((1, 2), (4, 4))]  # two positions and one own token each: 4 in all
    two = [datum((5, 6), (3, 3)), datum((5, 6), (4, 4))]
    assert [pack.rows for pack in packed([*one, *two], 7)] == [(0, 1), (2, 3)]
    assert [pack.rows for pack in packed([*one, *two], 8)] == [(0, 1, 2, 3)]
    assert [pack.rows for pack in packed([*one, *two], 3)] == [(0,), (1,), (2,), (3,)]


def test_rows_without_a_counted_token_are_left_out() -> None:
    row = datum((1, 2), (3, 4))
    silent = replace(row, mask=(0.0,) * len(row.mask))
    assert packed([silent], 100) == []
    assert [pack.rows for pack in packed([silent, row], 100)] == [(1,)]
