from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.visibility import visible_and_hidden

TESTS = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=12, unique=True)


@given(st.text(max_size=8), TESTS)
def test_every_test_is_on_one_side_and_half_of_them_are_hidden(problem: str, tests: list[str]) -> None:
    visible, hidden = visible_and_hidden(problem, tests)
    assert sorted([*visible, *hidden]) == sorted(tests)
    assert len(visible) - len(hidden) in (0, 1)


@given(st.text(max_size=8), TESTS, st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(problem: str, tests: list[str], random: object) -> None:
    visible, hidden = visible_and_hidden(problem, tests)
    mixed = [*tests, tests[0]]
    random.shuffle(mixed)  # type: ignore[attr-defined]
    again = visible_and_hidden(problem, mixed)
    assert (set(again[0]), set(again[1])) == (set(visible), set(hidden))
    assert list(visible) == [test for test in tests if test in visible], "the order of the source is kept"


@given(st.text(max_size=8), TESTS, st.text(min_size=9, max_size=9))
def test_one_test_more_moves_at_most_one_other(problem: str, tests: list[str], another: str) -> None:
    before, after = (set(visible_and_hidden(problem, some)[1]) for some in (tests, [*tests, another]))
    assert len((before ^ after) - {another}) <= 1


def test_the_side_depends_on_the_problem() -> None:
    tests = [f"assert f({number})" for number in range(8)]
    assert len({visible_and_hidden(f"problem {number}", tests) for number in range(20)}) > 10


def test_the_split_does_not_change_between_versions() -> None:
    """Checkpoints are compared over months: a test that was hidden must stay so."""
    assert visible_and_hidden("mbpp/11", ["assert a", "assert b", "assert c"]) == FIXED


FIXED = (("assert b", "assert c"), ("assert a",))
