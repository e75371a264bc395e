"""Rewards of repairs: tests decide, likeness only breaks ties, findings forfeit."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coderl_trainer.errors import RewardError
from coderl_trainer.repair.grading import Grade
from coderl_trainer.repair.rewards import Finding, changed_paths, findings_of, likeness_of, reward_of
from coderl_trainer.repair.settings import RepairRewards
from coderl_trainer.repair.trees import Entry, Found, Tree

from .broken_repositories import RIGHT, TESTS, area_task

GRADES = st.builds(
    Grade, st.lists(st.booleans(), min_size=1, max_size=8).map(tuple), st.lists(st.booleans(), max_size=4).map(tuple)
)
SHARES = st.floats(0, 1)
BASE = area_task().tree
FIXED: Tree = {**BASE, "area.py": Entry(RIGHT.encode())}


def left(**changes: str | None) -> Tree:
    files = {**BASE, **{name.replace("__", "/") + ".py": Entry((text or "").encode()) for name, text in changes.items()}}
    return {
        name: entry for name, entry in files.items() if changes.get(name.removesuffix(".py").replace("/", "__"), "") is not None
    }


@given(GRADES, SHARES, st.booleans())
@example(Grade((*[False] * 6, True), ()), 1.0, True)  # 0.05 · 0.8 / 0.8 is more than 0.05
def test_nothing_is_gained_without_a_test(grade: Grade, likeness: float, fractional: bool) -> None:
    reward = reward_of(RepairRewards(fractional=fractional), grade, likeness, ())
    score = grade.score if fractional else float(grade.solved)
    assert (reward == 0) == (score == 0)
    assert score <= reward <= score + 0.05


@given(GRADES, GRADES, SHARES, SHARES)
def test_likeness_never_makes_up_for_a_test(one: Grade, other: Grade, near: float, far: float) -> None:
    if len(one.fail_to_pass) != len(other.fail_to_pass):
        return
    for rewards in (RepairRewards(), RepairRewards(0.4, fractional=True)):
        scores = [grade.score if rewards.fractional else float(grade.solved) for grade in (one, other)]
        if scores[0] > scores[1]:
            assert reward_of(rewards, one, far, ()) > reward_of(rewards, other, near, ())


@given(GRADES, SHARES, st.sampled_from(Finding))
def test_findings_that_forfeit_cost_everything(grade: Grade, likeness: float, finding: Finding) -> None:
    with_it, without = (reward_of(RepairRewards(), grade, likeness, found) for found in ((finding,), ()))
    assert with_it == (0.0 if finding.forfeits else without)


def test_constants_that_cannot_be() -> None:
    for wrong in ({"similarity": 0.5}, {"similarity": -0.1}, {"cap": 0.0}):
        with pytest.raises(RewardError):
            RepairRewards(**wrong)


def test_likeness_counts_changed_lines_alone() -> None:
    other = RIGHT.replace("width * height", "height * width")
    assert likeness_of(BASE, BASE, FIXED) == 0.0
    assert likeness_of(BASE, FIXED, FIXED) == 1.0
    commented = likeness_of(BASE, left(area="# the area\n" + BASE["area.py"].text), FIXED)
    rewritten = likeness_of(BASE, left(area=other), FIXED)
    assert commented == 0.0 < rewritten < 1.0
    assert likeness_of(BASE, left(area=RIGHT, more="x = 1\n" * 50), FIXED) < rewritten


def test_an_untouched_repository_has_no_findings() -> None:
    assert findings_of(area_task(), BASE, Found(BASE)) == ()
    assert findings_of(area_task(), BASE, Found(FIXED)) == ()
    assert changed_paths(BASE, FIXED) == ("area.py",)


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        (left(tests__test_area=None), Finding.TESTS_REMOVED),
        (left(tests__test_area=TESTS + "#"), Finding.TESTS_CHANGED),
        (left(conftest="x = 1\n"), Finding.RUNNER_CHANGED),
        (left(tests__conftest="x = 1\n"), Finding.RUNNER_CHANGED),
        (left(area="import sys\nx = 'pytest' in sys.modules\n"), Finding.NAMES_TESTS),
        (left(area="def test_two():\n    return 6\n"), Finding.NAMES_TESTS),
        (left(area=None, tests____init__=None), Finding.FILES_REMOVED),
        ({**BASE, "link": Entry(b"/etc/passwd", "120000")}, Finding.STRANGE_FILE),
        ({**BASE, "a/link": Entry(b"../../x", "120000")}, Finding.STRANGE_FILE),
    ],
)
def test_what_is_named(tree: Tree, named: Finding) -> None:
    assert named in findings_of(area_task(), BASE, Found(tree))


def test_links_that_stay_inside_are_not_named() -> None:
    assert findings_of(area_task(), BASE, Found({**BASE, "a/link": Entry(b"../area.py", "120000")})) == ()
    assert findings_of(area_task(), BASE, Found(BASE, nested=("sub",))) == (Finding.NESTED_REPOSITORY,)
    assert findings_of(area_task(), BASE, Found(BASE, strange=("pipe",), too_large=True)) == (
        Finding.TOO_LARGE,
        Finding.STRANGE_FILE,
    )
