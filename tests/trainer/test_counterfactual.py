from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.costs import CostParameters, costs_of
from coderl_trainer.advantages import group_advantages
from coderl_trainer.counterfactual import agreed_chars, agreement_seconds, agreement_share, gate_seconds, task_seconds
from coderl_trainer.errors import FigureError
from coderl_trainer.log_tasks import tasks_from_log
from coderl_trainer.types import Task, TaskKind

from .logged_requests import Requests

KEPT = "return sum(values) / len(values)"


def test_agreement_is_the_common_beginning() -> None:
    assert agreed_chars("return sum(x)", "return sum(values)") == len("return sum(")
    assert agreed_chars("a\r\nb  ", "a\nb") == 3
    assert agreement_share("return sum(x)", "return sum(values)") == pytest.approx(11 / 13)
    assert agreement_share("", "x") == agreement_share("x", "") == 0.0


@given(st.text(max_size=60), st.text(max_size=60))
def test_agreement_is_a_share_and_whole_only_for_a_beginning(candidate: str, kept: str) -> None:
    share = agreement_share(candidate, kept)
    assert 0 <= share <= 1
    plain = candidate.replace("\r\n", "\n").replace("\r", "\n").rstrip()
    if plain:
        assert (share == 1) == kept.replace("\r\n", "\n").replace("\r", "\n").startswith(plain)


@given(st.integers(1, len(KEPT) - 1))
def test_more_that_agrees_saves_more(cut: int) -> None:
    costs = CostParameters()
    if KEPT[:cut].strip() != KEPT[: cut + 1].strip():
        assert agreement_seconds(KEPT[:cut], KEPT, costs) < agreement_seconds(KEPT[: cut + 1], KEPT, costs)


def test_what_does_not_agree_costs_its_reading_and_silence_nothing() -> None:
    costs = CostParameters()
    assert agreement_seconds("xxxx", KEPT, costs) == pytest.approx(-costs_of(4, 1, costs).t_verify_s)
    assert agreement_seconds("  ", KEPT, costs) == 0.0
    assert agreement_seconds(KEPT + "\nmore and more", KEPT, costs) < agreement_seconds(KEPT, KEPT, costs)


def test_a_logged_context_becomes_a_group_with_advantages() -> None:
    made = Requests()
    (task,) = tasks_from_log([made.one(text=KEPT, written=" " + KEPT, share=1.0)]).tasks
    rewards = [task_seconds(task, candidate) for candidate in (KEPT, "return sum(values)", "pass", "")]
    assert rewards[0] > rewards[1] > rewards[3] > rewards[2]
    advantages = group_advantages(rewards)
    assert advantages[0] > 0 > advantages[2]
    assert sum(advantages) == pytest.approx(0)
    with pytest.raises(FigureError, match="no text that was kept"):
        task_seconds(Task("x", TaskKind.INFILL, "", visible_tests=("assert True",)), "y")


def test_a_gate_scores_what_nobody_kept() -> None:
    assert gate_seconds(0.9, KEPT) > gate_seconds(0.5, KEPT) > gate_seconds(0.0, KEPT)
    assert gate_seconds(1.0, KEPT) == pytest.approx(agreement_seconds(KEPT, KEPT))
    assert gate_seconds(0.5, "") == 0.0
    with pytest.raises(FigureError, match="probability"):
        gate_seconds(1.5, KEPT)
