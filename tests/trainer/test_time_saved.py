"""Seconds saved, two models file by file."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coderl_trainer.errors import FigureError
from coderl_trainer.statistics import cohens_d, cohens_d_paired
from coderl_trainer.time_saved import SavedPair, compare_saved, mean_saved, verdict

RATES = st.integers(-500, 500).map(lambda tenths: tenths / 10)


@settings(max_examples=25)
@given(rows=st.lists(st.tuples(RATES, RATES), min_size=2, max_size=12))
def test_the_figures_are_those_of_the_statistics(rows: list[tuple[float, float]]) -> None:
    found = compare_saved([SavedPair(f"f{index}", a, b) for index, (a, b) in enumerate(rows)], seed=2)
    a, b = [row[0] for row in rows], [row[1] for row in rows]
    assert found.n == len(rows)
    assert found.a == mean_saved([f"f{index}" for index in range(len(rows))], a, seed=2)
    assert found.difference.estimate == pytest.approx(found.b.estimate - found.a.estimate, abs=1e-9)
    for told, wanted in ((found.cohens_d, cohens_d(a, b)), (found.cohens_d_paired, cohens_d_paired(a, b))):
        assert told == (wanted if math.isfinite(wanted) else None)


def test_a_difference_that_every_file_shows_is_sure_though_the_files_differ() -> None:
    pairs = [SavedPair(f"f{index}", 10.0 * index, 10.0 * index + 2 + index % 2) for index in range(10)]
    found = compare_saved(pairs)
    assert 2 <= found.difference.low <= found.difference.estimate == 2.5 <= found.difference.high <= 3
    assert found.a.high - found.a.low > 20
    assert verdict(found) == "B saves more time, and the interval leaves out 0."
    assert verdict(compare_saved([SavedPair(pair.file, pair.b, pair.a) for pair in pairs])).startswith("A saves more")


def test_one_file_says_nothing_of_how_sure_it_is() -> None:
    found = compare_saved([SavedPair("f", 1.0, 2.0)])
    assert found.to_json()["difference"] == {"estimate": 1.0, "low": None, "high": None}
    assert found.cohens_d is None
    assert verdict(found).startswith("One file was typed")


def test_files_that_do_not_tell_are_said_not_to() -> None:
    pairs = [SavedPair(f"f{index}", 0.0, float((-1) ** index)) for index in range(10)]
    assert verdict(compare_saved(pairs)).startswith("The interval of the seconds holds 0")


def test_nothing_and_twice_the_same_are_refused() -> None:
    with pytest.raises(FigureError, match="no pairs"):
        compare_saved([])
    with pytest.raises(FigureError, match="stands twice"):
        compare_saved([SavedPair("f", 1.0, 2.0), SavedPair("f", 1.0, 2.0)])
    with pytest.raises(FigureError, match="no mean"):
        mean_saved([], [])
