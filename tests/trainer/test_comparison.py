"""Two models on the same tasks: the whole and its parts."""

from __future__ import annotations

import io
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from coderl_trainer.comparison import Pair, compare, compare_all, verdict
from coderl_trainer.comparison_plot import comparison_picture, seconds_picture
from coderl_trainer.errors import FigureError
from coderl_trainer.statistics import cohens_h, mcnemar, paired_difference, pass_at_k, share
from coderl_trainer.time_saved import SavedPair, compare_saved

SOLVED = st.tuples(st.booleans(), st.booleans(), st.sampled_from(["", "p", "q"]), st.sampled_from(["", "easy", "odd"]))


def pairs(rows: list[tuple[bool, bool, str, str]]) -> list[Pair]:
    return [
        Pair(f"t{index}", a, b, problem, tier, None if index % 3 == 2 else 15 * index)
        for index, (a, b, problem, tier) in enumerate(rows)
    ]


@settings(max_examples=15)
@given(rows=st.lists(SOLVED, min_size=1, max_size=30))
def test_the_figures_are_those_of_the_statistics(rows: list[tuple[bool, bool, str, str]]) -> None:
    found = compare_all(pairs(rows), seed=3)
    a, b = [float(row[0]) for row in rows], [float(row[1]) for row in rows]
    only_a = sum(1 for row in rows if row[0] > row[1])
    only_b = sum(1 for row in rows if row[1] > row[0])
    problems = [row[2] or f"t{index}" for index, row in enumerate(rows)]
    assert (found.a, found.b) == (share(int(sum(a)), len(a)), share(int(sum(b)), len(b)))
    assert (found.only_a, found.only_b, found.problems) == (only_a, only_b, len(set(problems)))
    assert found.mcnemar_p == mcnemar(only_a, only_b)
    assert found.cohens_h == pytest.approx(cohens_h(sum(a) / len(a), sum(b) / len(b)))
    assert found.difference.to_json() == paired_difference(a, b, problems, seed=3).to_json()


@settings(max_examples=15)
@given(rows=st.lists(SOLVED, min_size=1, max_size=30))
def test_the_parts_hold_every_task_that_is_known_once(rows: list[tuple[bool, bool, str, str]]) -> None:
    made = pairs(rows)
    found = compare(made)
    assert sum(part.n for part in found.by_tier.values()) == sum(bool(pair.tier) for pair in made)
    assert sum(part.n for part in found.by_length.values()) == sum(pair.answer_chars is not None for pair in made)


def test_tiers_and_lengths_stand_in_their_order() -> None:
    tiers = ["hard", "own", "easy", "", "medium"]
    made = [Pair(f"t{index}", True, False, "", tier, chars) for index, (tier, chars) in
            enumerate(zip(tiers, (81, 0, 20, 21, 80), strict=True))]  # fmt: skip
    found = compare(made)
    assert list(found.by_tier) == ["easy", "medium", "hard", "own"]
    assert {name: part.n for name, part in found.by_length.items()} == {
        "0–20 chars": 2, "21–40 chars": 1, "41–80 chars": 1, "81–160 chars": 1,
    }  # fmt: skip


def test_what_is_not_known_is_none_in_json() -> None:
    found = compare_all([Pair("x", True, False, "p"), Pair("y", True, True, "p")])
    assert found.to_json()["difference"] == {"estimate": -0.5, "low": None, "high": None}
    assert math.isnan(found.difference.low)


def test_the_sentence_goes_by_the_interval() -> None:
    def of(solved: list[tuple[int, int]], problem: str = "") -> str:
        return verdict(compare_all([Pair(f"t{i}", bool(a), bool(b), problem) for i, (a, b) in enumerate(solved)]))

    assert of([(0, 1)] * 20 + [(1, 1)] * 20).startswith("B solves more")
    assert of([(1, 0)] * 20 + [(1, 1)] * 20).startswith("A solves more")
    assert of([(1, 0), (0, 1)] * 10) == "The interval holds 0: these tasks do not tell which one is better."
    assert of([(1, 1), (0, 0)]) == "Both solve exactly the same tasks."
    assert "one base problem" in of([(1, 0), (0, 0)], "p")


def test_nothing_and_twice_the_same_are_refused() -> None:
    with pytest.raises(FigureError, match="nothing to compare"):
        compare([])
    with pytest.raises(FigureError, match="stands twice"):
        compare([Pair("x", True, True), Pair("x", False, True)])


@pytest.mark.parametrize("parts", [0, 1, 2])
def test_the_picture_grows_with_the_parts_and_is_repeatable(parts: int) -> None:
    rng = random.Random(parts)
    made = [
        Pair(f"t{i}", rng.random() < 0.3, rng.random() < 0.4, f"p{i // 2}", ["easy", "hard"][i % 2] if parts else "",
             i if parts == 2 else None)
        for i in range(60)
    ]  # fmt: skip
    found = compare(made)
    picture = comparison_picture(found, "embedded", "a/very/long/path/" * 5 + "model.gguf")
    assert picture == comparison_picture(found, "embedded", "a/very/long/path/" * 5 + "model.gguf")
    height, width, _ = imread(io.BytesIO(picture)).shape
    rows = 1 + len(found.by_tier) + len(found.by_length)
    assert rows == (1, 3, 6)[parts]
    assert (width, height) == (1056, pytest.approx(110 * (1.9 + 0.42 * rows), abs=2))


def test_a_picture_of_what_is_not_known_can_be_drawn() -> None:
    found = compare([Pair("x", True, False, "p"), Pair("y", True, True, "p")])
    assert comparison_picture(found, "A", "B").startswith(b"\x89PNG")


# -- several samples ----------------------------------------------------------------------------------------------------------


COUNTS = st.integers(0, 5).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@settings(max_examples=15)
@given(rows=st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=12), k=st.integers(1, 5))
def test_pass_at_k_is_compared_on_the_tasks_that_both_have_samples_for(
    rows: list[tuple[tuple[int, int], tuple[int, int]]], k: int
) -> None:
    made = [Pair(f"t{index}", False, False, counts_a=a, counts_b=b) for index, (a, b) in enumerate(rows)]
    found = compare_all(made, ks=[k]).pass_at_k
    both = [(pass_at_k(*a, k), pass_at_k(*b, k)) for a, b in rows if min(a[0], b[0]) >= k]
    assert (k in found) == bool(both)
    if both:
        assert found[k].n == len(both)
        assert found[k].a == pytest.approx(sum(a for a, _ in both) / len(both))
        assert found[k].difference.estimate == pytest.approx(sum(b - a for a, b in both) / len(both))


def test_the_picture_shows_pass_at_k_and_the_files_too() -> None:
    made = [Pair(f"t{i}", i % 3 == 0, i % 2 == 0, f"p{i // 2}", counts_a=(5, i % 4), counts_b=(5, i % 5)) for i in range(20)]
    saved = compare_saved([SavedPair("x.py", 1.0, 2.0), SavedPair("y.py", -1.0, 2.5)])
    rates = {"x.py": (1.0, 2.0), "y.py": (-1.0, 2.5)}
    plain = comparison_picture(compare(made), "A", "B")
    more = comparison_picture(compare(made, ks=(1, 5)), "A", "B")
    both = comparison_picture(compare(made), "A", "B", (rates, saved))
    alone = seconds_picture(rates, saved, "A", "B")
    heights = [imread(io.BytesIO(picture)).shape[0] for picture in (plain, more, both, alone)]
    assert heights[1] - heights[0] == pytest.approx(2 * 0.42 * 110, abs=2)
    assert heights[2] == pytest.approx(heights[0] + heights[3], abs=2)
