"""Which tasks GRPO learns from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coderl_generator.complete import Budget
from coderl_trainer.environment import Environment
from coderl_trainer.loop import teaches
from coderl_trainer.recipe import Recipe
from coderl_trainer.rewards import RewardConfig
from coderl_trainer.types import Task, TaskKind

END = 0x110000
LINE = Task(
    "line", TaskKind.INFILL, "def f(x):\n    return ", suffix="\n", reference="x + 1", visible_tests=("assert f(1) == 2",)
)
LINES = replace(LINE, id="lines", prompt="def f(x):\n", reference="    x += 1\n    return x\n")
FUNCTION = replace(LINE, id="function", kind=TaskKind.FUNCTION, suffix=None)
UNTESTED = replace(LINE, id="untested", visible_tests=())
LONG = replace(LINE, id="long", reference="x + 1" + " + 0" * 40)

RECIPE = Recipe()
ONE_LINE = replace(RECIPE, grpo=replace(RECIPE.grpo, one_line=True))
AGREEING = replace(RECIPE, rewards=RewardConfig(weights={"agreement": 1.0}))


@pytest.mark.parametrize(
    ("task", "recipe", "taught"),
    [
        (LINE, RECIPE, True),
        (LINES, RECIPE, True),
        (FUNCTION, RECIPE, True),
        (UNTESTED, RECIPE, False),
        (UNTESTED, AGREEING, True),
        (LONG, RECIPE, False),
        (LINE, ONE_LINE, True),
        (LINES, ONE_LINE, False),
        (FUNCTION, ONE_LINE, False),
    ],
)
def test_which_tasks_teach(task: Task, recipe: Recipe, taught: bool) -> None:
    environment = Environment(
        lambda text: [*map(ord, text)],
        lambda ids: "".join("" if one == END else chr(one) for one in ids),
        (END,),
        Budget(max_tokens=40),
    )
    assert teaches(task, recipe, environment) is taught
