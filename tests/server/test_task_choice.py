"""Which tasks a command means: files, and the part that a run or a recipe keeps for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coderl_server.errors import InputError
from coderl_server.task_choice import PARTS, TaskChoice
from coderl_server.training import parts_of
from coderl_trainer.recipe import Recipe, SplitRecipe
from coderl_trainer.runs import RunFolder


def mbpp(number: int) -> dict[str, object]:
    return {
        "task_id": number,
        "text": f"Write a function that adds {number}.",
        "code": f"def add_{number}(x):\n    return x + {number}",
        "test_list": [f"assert add_{number}(1) == {number + 1}", f"assert add_{number}(2) == {number + 2}"],
    }


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """20 gaps that go by the hash, and functions of each official part of MBPP."""
    gaps = tmp_path / "gaps.jsonl"
    about = {"suffix": "\n", "answer": "1"}
    rows = [{"id": f"g{n}", "prefix": f"a = {n} + ", "test": f"assert a == {n + 1}", **about} for n in range(20)]
    gaps.write_text("".join(json.dumps(row) + "\n" for row in rows))
    functions = tmp_path / "mbpp.jsonl"
    functions.write_text("".join(json.dumps(mbpp(number)) + "\n" for number in (3, 11, 500, 555, 700)))
    return str(gaps), str(functions)


@pytest.fixture
def run(tmp_path: Path, files: tuple[str, str]) -> Path:
    """The folder of a run with these tasks and a split of its own."""
    recipe = Recipe(tasks=files, split=SplitRecipe(train=0.3, validation=0.3, seed=5))
    with RunFolder.create(tmp_path / "runs", "own", recipe) as made:
        return made.path


def ids(choice: TaskChoice) -> list[str]:
    return [task.id for task in choice.tasks()]


def test_the_parts_are_all_there_is_and_share_nothing(files: tuple[str, str]) -> None:
    found = {part: ids(TaskChoice(files, part)) for part in PARTS}
    assert sorted(name for part in found.values() for name in part) == sorted(ids(TaskChoice(files)))
    assert found["kept-apart"] == ["mbpp/11", "mbpp/500"]
    assert "mbpp/555" in found["validation"]
    assert {"mbpp/3", "mbpp/700"} <= set(found["train"])


def test_a_run_says_tasks_and_split_and_its_training_tasks_are_never_among_the_held_out(
    run: Path, files: tuple[str, str]
) -> None:
    learned = parts_of(Recipe(tasks=files, split=SplitRecipe(train=0.3, validation=0.3, seed=5)))
    held_out = ids(TaskChoice(run=run))
    assert held_out == [task.id for task in learned.held_out]
    assert not {task.id for task in learned.train} & set(held_out)
    assert held_out != ids(TaskChoice(files, "held-out"))  # another seed and other shares
    assert held_out == ids(TaskChoice(files, "held-out", split_seed=5, split_train=0.3, split_validation=0.3))
    assert TaskChoice(run=run).warnings == ()
    (warned,) = TaskChoice(run=run, part="train").warnings
    assert "learned from" in warned


def test_a_recipe_says_the_same(tmp_path: Path, run: Path, files: tuple[str, str]) -> None:
    path = tmp_path / "own.toml"
    path.write_text(f"tasks = {json.dumps(files)}\n[split]\ntrain = 0.3\nvalidation = 0.3\nseed = 5\n")
    assert ids(TaskChoice(recipe=path)) == ids(TaskChoice(run=run))


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (TaskChoice(("shipped",), "some"), "--part must be one of train, validation, held-out, kept-apart, all, not 'some'"),
        (TaskChoice(("shipped",), "kept-apart"), "is empty: only MBPP has tasks that are kept apart"),
        (TaskChoice(("shipped", "shipped")), "and so does another of the files"),
        (TaskChoice(("/nonexistent.jsonl",)), "--tasks cannot be used: /nonexistent.jsonl"),
        (TaskChoice(("shipped",), "train", split_train=0.9, split_validation=0.9), "at most 1 together"),
        (TaskChoice(("shipped",), split_seed=0), "--split-seed: all tasks are meant"),
        (TaskChoice(("shipped",), "all", split_train=0.5, split_validation=0.0), "--split-train, --split-validation: all"),
        (TaskChoice(run=Path("/nonexistent")), "--run /nonexistent is no run of `coderl train`"),
        (TaskChoice(run=Path("/nonexistent"), recipe=Path("small")), "give one of them"),
        (TaskChoice(recipe=Path("no-such")), "--recipe cannot be used: There is no recipe no-such"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(choice: TaskChoice, said: str) -> None:
    with pytest.raises(InputError) as raised:
        choice.tasks()
    assert said in str(raised.value)


def test_a_run_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"tasks": 3}')
    with pytest.raises(InputError, match="--run"):
        TaskChoice(run=tmp_path).tasks()
