from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.advantages import Degenerate, group_advantages
from coderl_trainer.errors import GroupError
from coderl_trainer.groups import Action, GroupVerdict, Sameness, group_verdict

ROW = st.tuples(st.sampled_from(["a", "b", "c"]), st.none() | st.sampled_from([0.0, 0.25, 1.0]))
GROUP = st.lists(ROW, min_size=1, max_size=8)


@given(GROUP, st.integers(1, 4), st.integers(1, 4))
def test_exactly_groups_with_a_gradient_are_learned_from(
    rows: list[tuple[str, float | None]], tries: int, most_tries: int
) -> None:
    texts, rewards = [text for text, _ in rows], [reward for _, reward in rows]
    verdict = group_verdict(texts, rewards, tries=tries, most_tries=most_tries)
    assert (verdict.action is Action.LEARN) == any(group_advantages(rewards)) == (verdict.skipped == "")
    assert verdict.action is not Action.SAMPLE_AGAIN or tries < most_tries


@given(GROUP, st.integers(0, 8))
def test_rows_without_a_reward_do_not_count(rows: list[tuple[str, float | None]], at: int) -> None:
    texts, rewards = [text for text, _ in rows], [reward for _, reward in rows]
    at = min(at, len(rows))
    padded = group_verdict([*texts[:at], "another", *texts[at:]], [*rewards[:at], None, *rewards[at:]], most_tries=3)
    assert padded == group_verdict(texts, rewards, most_tries=3)


@given(GROUP, st.integers(1, 5))
def test_sampling_again_ends(rows: list[tuple[str, float | None]], most_tries: int) -> None:
    texts, rewards = [text for text, _ in rows], [reward for _, reward in rows]
    actions = [group_verdict(texts, rewards, tries=tries, most_tries=most_tries).action for tries in range(1, most_tries + 1)]
    assert actions[-1] is not Action.SAMPLE_AGAIN


@pytest.mark.parametrize(
    ("texts", "rewards", "wanted"),
    [
        ("ab", [1.0, 1.0], GroupVerdict(Action.OTHER_TASK, Degenerate.ALL_PASS, Sameness.CLIFF)),
        ("aa", [1.0, 1.0], GroupVerdict(Action.OTHER_TASK, Degenerate.ALL_PASS, Sameness.COLLAPSE)),
        ("ab", [0.0, 0.0], GroupVerdict(Action.SAMPLE_AGAIN, Degenerate.ALL_FAIL, Sameness.CLIFF)),
        ("aa", [0.0, 0.0], GroupVerdict(Action.OTHER_TASK, Degenerate.ALL_FAIL, Sameness.COLLAPSE)),
        ("ab", [0.5, 0.5], GroupVerdict(Action.SAMPLE_AGAIN, Degenerate.TIE, Sameness.CLIFF)),
        ("ab", [0.5, None], GroupVerdict(Action.SAMPLE_AGAIN, Degenerate.TOO_FEW)),
        ("aab", [0.0, 0.0, None], GroupVerdict(Action.OTHER_TASK, Degenerate.ALL_FAIL, Sameness.COLLAPSE)),
        ("ab", [0.0, 1.0], GroupVerdict(Action.LEARN)),
    ],
)
def test_causes_and_cures(texts: str, rewards: list[float | None], wanted: GroupVerdict) -> None:
    assert group_verdict(list(texts), rewards, tries=1, most_tries=2) == wanted


def test_the_reason_is_written_in_one_word() -> None:
    assert group_verdict(["a", "b"], [0.0, 0.0]).skipped == "all_fail/cliff"
    assert group_verdict(["a"], [0.0]).skipped == "too_few"
    assert group_verdict(["a", "b"], [0.0, 1.0]).skipped == ""


def test_tie_breakers_alone_are_no_lesson() -> None:
    """All right, and told apart by form only: without a tolerance that would be a lesson like any other."""
    rewards = [1.075, 1.05, 1.075]
    assert group_verdict(["a", "b", "c"], rewards, solved_G=[True] * 3).action is Action.LEARN
    told = group_verdict(["a", "b", "c"], rewards, solved_G=[True] * 3, tolerance=0.1)
    assert told == GroupVerdict(Action.OTHER_TASK, Degenerate.ALL_PASS, Sameness.CLIFF)
    wrong = group_verdict(["a", "b", "c"], [0.075] * 3, solved_G=[False] * 3, most_tries=2)
    assert wrong == GroupVerdict(Action.SAMPLE_AGAIN, Degenerate.ALL_FAIL, Sameness.CLIFF)
    assert group_verdict(["a", "b"], [0.5, 0.5], solved_G=[None, None]).degenerate is Degenerate.TIE


def test_lists_that_do_not_fit_are_refused() -> None:
    for texts, rewards, solved in ((["a"], [], None), (["a"], [0.0], []), ([], [], None), (["a"], [float("nan")], None)):
        with pytest.raises(GroupError):
            group_verdict(texts, rewards, solved_G=solved)
