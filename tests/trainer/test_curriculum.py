from __future__ import annotations

import json
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.curriculum import Curriculum, CurriculumConfig, SolveRate
from coderl_trainer.errors import TaskError

IDS = tuple(f"task {number}" for number in range(12))
VISITS = st.lists(st.tuples(st.sampled_from(IDS), st.integers(0, 8), st.integers(0, 8)), max_size=40)
CONFIG = st.builds(
    CurriculumConfig,
    forget=st.floats(0, 1),
    floor=st.floats(0.01, 1),
    replay_share=st.floats(0, 1),
    replay_size=st.integers(0, 6),
    seed=st.integers(0, 9),
)


def visited(config: CurriculumConfig, visits: list[tuple[str, int, int]]) -> Curriculum:
    curriculum = Curriculum(IDS, config)
    for name, solved, failed in visits:
        curriculum.note(name, solved, failed)
        curriculum.draw(2)
    return curriculum


@given(CONFIG, VISITS, st.integers(1, 20))
def test_a_draw_holds_different_tasks_as_many_as_asked(
    config: CurriculumConfig, visits: list[tuple[str, int, int]], tasks: int
) -> None:
    drawn = visited(config, visits).draw(tasks)
    assert len(drawn) == len(set(drawn)) == min(tasks, len(IDS))
    assert set(drawn) <= set(IDS)


@given(CONFIG, VISITS, VISITS)
def test_a_resumed_curriculum_goes_on_as_if_it_had_never_stopped(
    config: CurriculumConfig, before: list[tuple[str, int, int]], after: list[tuple[str, int, int]]
) -> None:
    whole = visited(config, before)
    resumed = Curriculum.from_json(whole.to_json())
    for name, solved, failed in after:
        assert whole.draw(4) == resumed.draw(4)
        whole.note(name, solved, failed)
        resumed.note(name, solved, failed)
    assert whole.draw(4) == resumed.draw(4)
    assert whole.to_json() == resumed.to_json()


@given(CONFIG, VISITS)
def test_the_buffer_is_bounded_and_holds_hard_tasks_only(config: CurriculumConfig, visits: list[tuple[str, int, int]]) -> None:
    curriculum = visited(config, visits)
    assert len(curriculum.hard) == len(set(curriculum.hard)) <= config.replay_size
    once_hard = {name for name, solved, failed in visits if 0 < solved < failed}
    assert set(curriculum.hard) <= once_hard


@given(st.floats(1, 200), st.floats(1, 200))
def test_half_solved_teaches_most(a: float, b: float) -> None:
    rate, half = SolveRate(a, b), SolveRate((a + b) / 2, (a + b) / 2)
    assert 0 < rate.teaches <= half.teaches + 1e-12 < 1 + 1e-12
    assert rate.teaches == pytest.approx(SolveRate(b, a).teaches)


@given(st.integers(0, 100), st.integers(0, 100))
def test_the_weight_is_the_posterior_s_expected_variance(solved: int, failed: int) -> None:
    """E[θ] − E[θ²] of a Beta distribution, from its mean and variance."""
    rate = SolveRate().seen(solved, failed, 0.0)
    a, b = solved + 1, failed + 1
    mean, variance = a / (a + b), a * b / ((a + b) ** 2 * (a + b + 1))
    assert rate.mean == pytest.approx(mean)
    assert rate.teaches == pytest.approx(4 * (mean - variance - mean**2))


def test_old_evidence_is_forgotten() -> None:
    rate = SolveRate()
    for _ in range(20):
        rate = rate.seen(0, 8, 0.7)
    for _ in range(6):
        rate = rate.seen(8, 0, 0.7)
    assert rate.mean > 0.8
    assert math.isclose(rate.seen(0, 0, 0.0).mean, 0.5)


def test_tasks_that_are_solved_half_the_time_are_drawn_most_and_none_is_given_up() -> None:
    curriculum = Curriculum(("easy", "half", "never"), CurriculumConfig(replay_share=0.0))
    for _ in range(20):
        curriculum.note("easy", 8, 0)
        curriculum.note("half", 4, 4)
        curriculum.note("never", 0, 8)
    drawn = Counter(curriculum.draw(1)[0] for _ in range(2000))
    assert drawn["half"] > 3 * drawn["easy"]
    assert drawn["half"] > 3 * drawn["never"]
    assert min(drawn["easy"], drawn["never"]) > 20


def test_hard_tasks_come_back_until_they_are_solved() -> None:
    curriculum = Curriculum(tuple(f"t{n}" for n in range(200)), CurriculumConfig(replay_share=0.5, replay_size=4))
    curriculum.note("t7", 1, 7)
    assert curriculum.hard == ("t7",)
    assert sum("t7" in curriculum.draw(4) for _ in range(50)) == 50
    curriculum.note("t7", 0, 8)
    assert curriculum.hard == ("t7",)  # a visit without success does not make it less hard
    curriculum.note("t7", 8, 0)
    curriculum.note("t7", 8, 0)
    assert curriculum.hard == ()
    for number in range(6):
        curriculum.note(f"t{number}", 1, 7)
    assert curriculum.hard == ("t2", "t3", "t4", "t5")


def test_the_share_of_replay_is_kept_on_average() -> None:
    curriculum = Curriculum(tuple(f"t{n}" for n in range(400)), CurriculumConfig(replay_share=0.3, replay_size=100))
    for number in range(100):
        curriculum.note(f"t{number}", 1, 7)
    hard = set(curriculum.hard)
    replayed = [sum(one in hard for one in curriculum.draw(5)) for _ in range(400)]
    assert sum(replayed) / 400 >= 0.3 * 5


def test_ungraded_visits_teach_nothing_about_the_task() -> None:
    curriculum = Curriculum(IDS, CurriculumConfig(forget=1.0))
    curriculum.note(IDS[0], 1, 7)
    before = curriculum.rate(IDS[0]), curriculum.hard
    curriculum.note(IDS[0], 0, 0)
    assert (curriculum.rate(IDS[0]), curriculum.hard) == before


def test_the_seed_decides_the_draw() -> None:
    draws = [[Curriculum(IDS, CurriculumConfig(seed=seed)).draw(6)] for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_the_draw_does_not_change_between_versions() -> None:
    curriculum = Curriculum(IDS, CurriculumConfig(seed=3))
    assert [curriculum.draw(3) for _ in range(2)] == FIXED


@pytest.mark.parametrize("ids", [(), ("a", "a")])
def test_a_curriculum_needs_different_tasks(ids: tuple[str, ...]) -> None:
    with pytest.raises(TaskError):
        Curriculum(ids)


@pytest.mark.parametrize(
    "changes", [{"forget": 1.5}, {"floor": 0.0}, {"replay_share": -0.1}, {"replay_size": -1}, {"replay_size": 0.5}]
)
def test_bad_constants_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(TaskError):
        CurriculumConfig(**changes)  # type: ignore[arg-type]


def test_what_cannot_be_is_refused() -> None:
    curriculum = Curriculum(IDS)
    for act in (
        lambda: curriculum.note("nobody", 1, 1),
        lambda: curriculum.note(IDS[0], -1, 1),
        lambda: curriculum.draw(0),
    ):
        with pytest.raises(TaskError):
            act()


def test_a_damaged_state_is_refused() -> None:
    good = json.loads(visited(CurriculumConfig(), [(IDS[0], 1, 7)]).to_json())
    damaged = [
        "",
        "[]",
        "{}",
        json.dumps({**good, "hard": ["nobody"]}),
        json.dumps({**good, "rates": {}}),
        json.dumps({**good, "rates": {IDS[0]: [0.0, 1.0]}, "hard": []}),
        json.dumps({**good, "config": {**good["config"], "floor": 0}}),
        json.dumps({**good, "draws": "many"}),
    ]
    for text in damaged:
        with pytest.raises(TaskError, match="not the state of a curriculum"):
            Curriculum.from_json(text)


FIXED = [["task 5", "task 4", "task 2"], ["task 7", "task 6", "task 0"]]
"""Worked out once, written down: a resumed run of an older version draws the same."""
