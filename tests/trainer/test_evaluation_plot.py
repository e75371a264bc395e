"""The picture of one evaluation grows with what it shows, and is repeatable."""

from __future__ import annotations

import io

import pytest
from matplotlib.image import imread

from coderl_gate.offpolicy import Interval
from coderl_trainer.evaluation_plot import evaluation_picture
from coderl_trainer.solve_rates import Solved, Tries, solve_rates


def solved(samples: int) -> Solved:
    made = [
        Tries(f"t{i}", samples, i % (samples + 1), tier=["easy", "hard"][i % 2], answer_chars=10 * i, kind="infill")
        for i in range(12)
    ]
    return solve_rates(made)


def height(picture: bytes) -> int:
    return int(imread(io.BytesIO(picture)).shape[0])


def test_tasks_files_and_both() -> None:
    rates, mean = {"a.py": 3.5, "b.py": -1.0}, Interval(1.25, -1.0, 3.5)
    tasks = evaluation_picture(solved(1), {}, None, "embedded")
    typed = evaluation_picture(None, rates, mean, "embedded")
    both = evaluation_picture(solved(1), rates, mean, "embedded")
    assert both == evaluation_picture(solved(1), rates, mean, "embedded")
    assert height(both) == pytest.approx(height(tasks) + height(typed), abs=2)
    assert height(evaluation_picture(solved(5), {}, None, "embedded")) > height(tasks)  # pass@5 is a line of its own


def test_a_model_that_was_asked_nothing_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        evaluation_picture(None, {}, None, "embedded")
