from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.errors import FigureError, LengthCollapse
from coderl_trainer.length_guard import EDGES, Lengths, Shown, by_length, require_length
from coderl_trainer.metric_names import NAME

SHOWN = st.builds(
    lambda chars, kept, share, weight: Shown(chars, kept, share * chars if kept else 0.0, weight),
    st.integers(1, 400),
    st.integers(0, 1),
    st.floats(0, 1),
    st.floats(0.1, 20),
)


def table(chars: int, kept: float, rows: int = 100) -> Lengths:
    return by_length([Shown(chars, kept, kept * chars)] * rows, rows)


def test_acceptance_and_characters_stand_side_by_side() -> None:
    shown = [Shown(8, 1, 8), Shown(8, 0, 0), Shown(30, 1, 15, 2.0), Shown(500, 0, 0)]
    found = by_length(shown, 10)
    whole = found.whole
    assert (whole.shown, whole.acceptance, whole.mean_chars) == (4, 3 / 5, (8 + 8 + 60 + 500) / 5)
    assert (whole.retained_per_shown, whole.retained_per_opportunity) == ((8 + 30) / 5, 38 / 10)
    assert [bucket.shown for bucket in found.buckets] == [2, 0, 1, 0, 0, 1]
    assert math.isnan(found.buckets[1].acceptance)
    assert found.buckets[2].retained_per_shown == 15
    assert found.buckets[-1].high is None


@given(st.lists(SHOWN, min_size=1, max_size=50), st.floats(1, 3))
def test_buckets_add_up_to_the_whole(shown: list[Shown], more: float) -> None:
    found = by_length(shown, more * sum(row.weight for row in shown) * (1 + 1e-12))
    assert sum(bucket.shown for bucket in found.buckets) == len(shown)
    retained = math.fsum(bucket.retained_per_opportunity for bucket in found.buckets)
    assert retained == pytest.approx(found.whole.retained_per_opportunity)
    assert 0 <= found.whole.acceptance <= 1 + 1e-9
    assert found.whole.retained_per_opportunity <= found.whole.retained_per_shown * (1 + 1e-9)
    assert all(NAME.fullmatch(name) and math.isfinite(value) for name, value in found.metrics().items())
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["whole"]["shown"] == len(shown)


def test_the_guard_fires_where_acceptance_is_bought_with_length() -> None:
    with pytest.raises(LengthCollapse, match=r"50% shorter \(40.0 → 20.0 .* from 30.0% to 40.0%; .* from 12.00 to 8.00"):
        require_length(table(40, 0.3), table(20, 0.4))


@pytest.mark.parametrize(
    ("chars", "kept"),
    [(20, 0.3), (20, 0.2), (40, 0.9), (80, 0.2), (33, 0.9)],
    ids=["shorter, not accepted more", "shorter and worse", "better", "longer", "a little shorter"],
)
def test_the_guard_is_silent_otherwise(chars: int, kept: float) -> None:
    found = require_length(table(40, 0.3), table(chars, kept))
    assert found["mean_chars_change"] == pytest.approx(chars / 40 - 1)
    assert found["acceptance_change"] == pytest.approx(kept - 0.3)


def test_the_share_that_is_allowed_can_be_set() -> None:
    require_length(table(40, 0.3), table(20, 0.4), most_drop=0.6)
    with pytest.raises(LengthCollapse):
        require_length(table(40, 0.3), table(36, 0.4), most_drop=0.05)
    for wrong in (0.0, 1.0, math.nan):
        with pytest.raises(FigureError, match="share"):
            require_length(table(40, 0.3), table(20, 0.4), most_drop=wrong)


def test_few_rows_prove_nothing() -> None:
    with pytest.raises(FigureError, match="10 suggestions are too few"):
        require_length(table(40, 0.3), table(20, 0.4, rows=10))
    with pytest.raises(FigureError, match="0 suggestions"):
        require_length(table(40, 0.3), by_length([], 5), least_shown=0)


@pytest.mark.parametrize("wrong", [(0, 1, 0), (5, 1, 6), (5, 2, 1), (5, 1, -1)])
def test_impossible_rows_are_refused(wrong: tuple[int, float, float]) -> None:
    with pytest.raises(FigureError, match="cannot be"):
        Shown(*wrong)


def test_impossible_tables_are_refused() -> None:
    with pytest.raises(FigureError, match="opportunities"):
        by_length([Shown(5, 1, 5)], 0.5)
    with pytest.raises(FigureError, match="rise"):
        by_length([Shown(5, 1, 5)], 1, edges=(10, 10))
    assert sorted(EDGES) == list(EDGES)
