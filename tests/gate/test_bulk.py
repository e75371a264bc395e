"""Features out of JSON, and batches that become one table."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate import bulk
from coderl_gate.bulk import Gathered, feature_matrix, mapping, matrix, numbers
from coderl_gate.errors import DataError

NAMES = ("a", "b", "c")
VALUES = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(2**40), 2**40)
ROWS = st.lists(st.dictionaries(st.sampled_from((*NAMES, "other")), VALUES), max_size=12)


def strict(row: dict[str, float | None]) -> bool:
    return all(value is None or math.isfinite(value) for value in row.values())


@given(ROWS, st.booleans())
def test_text_and_mapping_give_the_same_numbers(rows: list[dict[str, float | None]], as_text: bool) -> None:
    values, bad = feature_matrix([json.dumps(row) for row in rows] if as_text else rows, NAMES)
    assert bad.tolist() == [not strict(row) for row in rows]
    assert values.shape == (len(rows), 3)
    for row, line, out in zip(rows, values.tolist(), bad, strict=True):
        if not out:
            wanted = [math.nan if row.get(name) is None else float(row[name] or 0) for name in NAMES]
            np.testing.assert_array_equal(line, wanted)


def test_missing_is_never_zero() -> None:
    values, bad = feature_matrix(['{"a": null, "b": 0}'], NAMES)
    assert np.isnan(values[0, [0, 2]]).all()
    assert values[0, 1] == 0
    assert not bad.any()


@pytest.mark.parametrize("text", ['{"a": "much"}', '{"a": [1]}', '{"a": NaN}', '{"a": 1e999}'])
def test_what_is_no_number_is_told_apart(text: str) -> None:
    values, bad = feature_matrix([text, '{"a": 2.5}'], NAMES)
    assert bad.tolist() == [True, False]
    assert values[1, 0] == 2.5


@pytest.mark.parametrize("text", ["[1, 2]", "{oops", "3"])
def test_what_is_no_object_is_one_sentence(text: str) -> None:
    with pytest.raises(DataError, match="restore a backup"):
        feature_matrix([text], NAMES)
    with pytest.raises(DataError, match="restore a backup"):
        mapping(text)


def test_one_name_is_a_column() -> None:
    assert matrix([{"a": 1.0}, {}], ("a",)).shape == (2, 1)
    assert matrix([], NAMES).shape == (0, 3)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_batches_come_back_in_the_order_asked_for(sizes: list[int]) -> None:
    gathered, total = Gathered(), 0
    for size in sizes:
        rows = np.arange(total, total + size, dtype=np.float64)
        gathered.add({"x": rows, "m": np.column_stack([rows, -rows])})
        total += size
    order = np.random.default_rng(total).permutation(total)
    np.testing.assert_array_equal(gathered.column("x"), np.arange(total))
    np.testing.assert_array_equal(gathered.take("m", order), np.column_stack([order, -order]))
    np.testing.assert_array_equal(gathered.take("x", order), order)


def test_many_rows_are_held_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "EXACT_ROWS", 5)
    gathered = Gathered()
    for _ in range(3):
        gathered.add({"m": np.full((2, 2), 1 / 3), "x": np.full(2, 1 / 3)})
    order = np.arange(6)
    assert gathered.take("m", order).dtype == np.float32
    np.testing.assert_array_equal(gathered.take("x", order), 1 / 3)


def test_numbers_keep_what_is_missing() -> None:
    np.testing.assert_array_equal(numbers([1, None, 0.0]), [1.0, math.nan, 0.0])
