from __future__ import annotations

import random
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.errors import TaskError
from coderl_trainer.splits import OFFICIAL, Part, Shares, part_of, split
from coderl_trainer.types import Task, TaskKind


def task(name: str, problem: str = "", part: str | None = None) -> Task:
    metadata = MappingProxyType({} if part is None else {"part": part})
    return Task(name, TaskKind.INFILL, "x = ", reference="1", group_id=problem, metadata=metadata)


PROBLEMS = st.lists(st.tuples(st.sampled_from("abcdefghij"), st.sampled_from([None, *OFFICIAL])), min_size=1, max_size=40).map(
    lambda rows: [task(f"task {number}", problem, part) for number, (problem, part) in enumerate(rows)]
)


@given(PROBLEMS, st.integers(0, 5))
def test_no_problem_is_in_two_parts_and_no_task_is_lost(tasks: list[Task], seed: int) -> None:
    splits = split(tasks, seed)
    sides = [{one.problem for one in splits.part(part)} for part in Part]
    assert sum(map(len, sides)) == len(set().union(*sides))
    found = [one.id for part in Part for one in splits.part(part)] + [one.id for one in splits.left_out]
    assert sorted(found) == sorted(one.id for one in tasks)


@given(PROBLEMS, st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_does_not_matter(tasks: list[Task], seed: int, order: random.Random) -> None:
    mixed = list(tasks)
    order.shuffle(mixed)
    one, other = split(tasks, seed), split(mixed, seed)
    for part in Part:
        assert {task.id for task in one.part(part)} == {task.id for task in other.part(part)}


@given(PROBLEMS)
def test_a_problem_goes_to_its_most_reserved_part(tasks: list[Task]) -> None:
    reserved = list(Part)
    splits = split(tasks)
    for left in splits.left_out:
        keeper = next(part for part in Part if any(one.problem == left.problem for one in splits.part(part)))
        own = OFFICIAL[left.metadata["part"]] if "part" in left.metadata else part_of(left.problem)
        assert reserved.index(keeper) > reserved.index(own)


def test_a_new_file_moves_nothing() -> None:
    old, new = [task(f"old {n}") for n in range(50)], [task(f"new {n}") for n in range(50)]
    assert set(split(old).train) <= set(split([*new, *old]).train)


def test_shares_are_kept_and_the_seed_changes_who_is_where() -> None:
    names = [f"problem {number}" for number in range(4000)]
    parts = [part_of(name, 3, Shares(0.5, 0.2)) for name in names]
    assert parts.count(Part.TRAIN) / 4000 == pytest.approx(0.5, abs=0.03)
    assert parts.count(Part.VALIDATION) / 4000 == pytest.approx(0.2, abs=0.03)
    assert Part.APART not in parts
    assert parts != [part_of(name, 4, Shares(0.5, 0.2)) for name in names]


def test_the_draw_does_not_change_between_versions() -> None:
    drawn = [part_of(f"HumanEval/{number}").value for number in range(8)]
    assert drawn == FIXED


def test_official_parts_are_followed() -> None:
    splits = split([task(name, part=name) for name in OFFICIAL])
    assert [one.id for one in splits.train] == ["prompt", "train"]
    assert [one.id for one in splits.validation] == ["validation"]
    assert [one.id for one in splits.apart] == ["test"]


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(TaskError, match="'exam'; known are prompt"):
        split([task("a", part="exam")])
    with pytest.raises(TaskError, match="at most 1 together"):
        Shares(0.8, 0.3)


FIXED = ["held_out", "train", "held_out", "train", "validation", "held_out", "held_out", "train"]
