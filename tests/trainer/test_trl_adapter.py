"""Our tasks and rewards in TRL's form: what is refused, what a completion is worth, and TRL's own trainer with both."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.complete import Budget
from coderl_trainer.advantages import Scale
from coderl_trainer.engine import Loss, Normalisation
from coderl_trainer.environment import Environment
from coderl_trainer.errors import RecipeError, TaskError
from coderl_trainer.judge import Judge, open_judge
from coderl_trainer.lora import read_lora
from coderl_trainer.recipe import GrpoRecipe, Recipe, SftRecipe, read_recipe, with_changes
from coderl_trainer.rewards import RewardConfig, Rewards
from coderl_trainer.trl_adapter import (
    TaskReward,
    environment_of,
    grpo_config,
    line_end_ids,
    refuse,
    task_dataset,
    trl_advantages,
)
from coderl_trainer.types import Task, TaskKind

from .tiny_llama import make_tiny_llama, need_torch

DOUBLE = Task(
    id="double",
    kind=TaskKind.INFILL,
    prompt="def double(x):\n    y =",
    suffix="\n    return y\n",
    visible_tests=("assert double(2) == 4", "assert double(3) == 6"),
    entry_point="double",
    reference=" 2 * x",
)
BROKEN = replace(DOUBLE, id="broken", setup="raise ValueError")
KEPT = replace(DOUBLE, id="kept", visible_tests=())
PLAIN = replace(Recipe(), sft=SftRecipe(epochs=0), grpo=GrpoRecipe(resample=0, normalisation=Normalisation.TOKENS))
"""As far from the defaults as TRL needs."""


# -- recipes ----------------------------------------------------------------------------------------------------------------


def test_all_that_trl_has_no_word_for_is_said_at_once() -> None:
    with pytest.raises(RecipeError) as told:
        refuse(Recipe())
    assert "sft.epochs=0" in str(told.value)
    assert "grpo.resample=0" in str(told.value)
    refuse(PLAIN)
    refuse(read_recipe(Path("trl")))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("grpo.loss=dro",), "grpo.loss and grpo.normalisation one of"),
        (("grpo.loss=cispo", "grpo.normalisation=sequences"), "cispo and tokens"),
        (("grpo.clip_target=0.1",), "grpo.clip_target"),
        (("grpo.entropy=0.1", "grpo.normalisation=constant"), "grpo.entropy=0"),
        (("grpo.entropy_end=0.1",), "grpo.entropy_end"),
        (("grpo.schedule=linear",), "grpo.schedule=constant"),
        (("grpo.kl=0.1", "lora_rank=0"), "grpo.kl=0"),
        (("grpo.steps=0",), "grpo.steps"),
        (("device=mps",), "device=cpu"),
    ],
)
def test_what_trl_has_no_word_for_is_refused(changes: tuple[str, ...], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        refuse(with_changes(PLAIN, changes))


votes = st.lists(st.none() | st.integers(0, 20).map(lambda n: n / 20), min_size=2, max_size=8)


@given(votes)
def test_advantages_are_divided_by_the_deviation_of_a_sample(rewards: list[float | None]) -> None:
    valid = [one for one in rewards if one is not None]
    if len(valid) < 2:
        assert trl_advantages(rewards, Scale.STD) == [0.0] * len(rewards)
        return
    mean, deviation = statistics.fmean(valid), statistics.stdev(valid)
    wanted = [0.0 if one is None else (one - mean) / (deviation + 1e-4) for one in rewards]
    assert trl_advantages(rewards, Scale.STD) == pytest.approx(wanted, abs=1e-9)
    assert trl_advantages(rewards, Scale.NONE) == pytest.approx([0.0 if one is None else one - mean for one in rewards])


# -- rewards ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    need_torch()
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder))


@pytest.fixture(scope="module")
def environment(tokenizer: Any) -> Environment:
    return environment_of(tokenizer, Budget(max_tokens=12))


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with open_judge("none", unjailed_because="the programs of these tests are written here") as judge:
        yield judge


def rewarded(environment: Environment, judge: Judge, task: Task, texts: list[str], **settings: Any) -> list[float | None]:
    rewards = Rewards(RewardConfig(settings.pop("weights", {"fractional": 1.0})))
    reward = TaskReward([task], environment, judge, rewards, **settings)
    ids = [environment.encode(text) for text in texts]
    return reward([task.prompt] * len(texts), texts, completion_ids=ids, task_id=[task.id] * len(texts))


def test_a_completion_is_worth_what_its_program_does(environment: Environment, judge: Judge) -> None:
    assert rewarded(environment, judge, DOUBLE, [" 2 * x\n", " 4 + 0\n", " x + 0\n"]) == [1.0, 0.5, 0.0]


def test_what_stands_behind_the_line_is_not_judged(environment: Environment, judge: Judge) -> None:
    assert rewarded(environment, judge, DOUBLE, [" 2 * x\n    y = 0\n", " 4 + 0\n"]) == [1.0, 0.5]


def test_a_sample_that_was_cut_off_does_not_vote_unless_it_is_asked_to(environment: Environment, judge: Judge) -> None:
    long = " 2 * x + 1 - y * 3 + z"
    assert len(environment.encode(long)) >= environment.budget.max_tokens
    assert rewarded(environment, judge, DOUBLE, [" 4 + 0\n", " 2 * x\n", long]) == [0.5, 1.0, None]
    assert rewarded(environment, judge, DOUBLE, [" 4 + 0\n", " 2 * x\n", long], mask_truncated=False) == [0.5, 1.0, 0.0]


def test_a_program_that_nobody_could_judge_has_no_reward(environment: Environment, judge: Judge) -> None:
    assert rewarded(environment, judge, BROKEN, [" 2 * x\n", " x + 0\n"]) == [None, None]


def test_what_only_breaks_ties_teaches_trl_nothing(environment: Environment, judge: Judge) -> None:
    told = rewarded(environment, judge, DOUBLE, [" x + 0\n", " (x + (\n"], weights={"binary": 1.0, "compiles": 0.05})
    assert told[0] == told[1] is not None


def test_texts_without_token_ids_are_cut_again(environment: Environment, judge: Judge) -> None:
    reward = TaskReward([KEPT], environment, judge, Rewards(RewardConfig({"agreement": 1.0})))
    assert reward([KEPT.prompt] * 2, [" 2 * x\n", "\n"], task_id=["kept"] * 2) == [1.0, 0.0]
    assert [len(group.samples) for group in reward.last.groups] == [2]


def test_a_data_set_that_is_not_ours_is_refused(environment: Environment, judge: Judge) -> None:
    reward = TaskReward([DOUBLE], environment, judge)
    with pytest.raises(TaskError, match="column task_id"):
        reward(["x"], ["y"])
    with pytest.raises(TaskError, match="'other'"):
        reward(["x"], ["y"], task_id=["other"])


def test_line_ends_are_the_tokens_with_a_line_break(tokenizer: Any, environment: Environment) -> None:
    found = line_end_ids(tokenizer)
    assert found
    assert all("\n" in environment.decode([token]) for token in found)
    assert set(environment.encode("\n")) <= set(found)
    assert not set(environment.encode("return a + b")) & set(found)


# -- TRL itself -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trl() -> Any:
    need_torch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("trl", reason="the extra `trl` is not installed")


@pytest.fixture
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.usefixtures("trl", "_quiet")
def test_a_configuration_says_what_the_recipe_says(tmp_path: Path) -> None:
    recipe = with_changes(PLAIN, ("grpo.loss=gspo", "grpo.normalisation=sequences", "grpo.updates=2", "grpo.kl=0.1"))
    made = grpo_config(recipe, tmp_path, run_name="mine")
    assert (made.loss_type, made.importance_sampling_level, made.beta) == ("grpo", "sequence", 0.1)
    assert (made.max_steps, made.num_iterations, made.logging_steps) == (2 * recipe.grpo.steps, 2, 2)
    assert made.generation_batch_size == recipe.grpo.groups * recipe.grpo.samples
    assert (made.epsilon, made.epsilon_high) == (recipe.grpo.epsilon_low, recipe.grpo.epsilon_high)
    assert made.run_name == "mine"
    assert grpo_config(with_changes(PLAIN, ("grpo.loss=cispo",)), tmp_path).epsilon_high == pytest.approx(1.28)
    assert grpo_config(PLAIN, tmp_path).loss_type == "dapo"
    assert Loss.PPO is PLAIN.grpo.loss


@pytest.mark.usefixtures("_quiet")
def test_ones_own_trainer_learns_from_our_rewards(
    trl: Any, folder: Path, tokenizer: Any, environment: Environment, judge: Judge, tmp_path: Path
) -> None:
    """The lines of docs/training.md."""
    import torch
    from transformers import AutoModelForCausalLM

    tasks = [replace(KEPT, id=f"kept/{n}") for n in range(4)]
    reward = TaskReward(tasks, environment, judge, Rewards(RewardConfig({"agreement": 1.0})), mask_truncated=False)
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    trainer = trl.GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=reward,
        train_dataset=task_dataset(tasks, environment),
        args=trl.GRPOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            report_to=[],
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=12,
            max_steps=1,
            learning_rate=1e-2,
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
            gradient_checkpointing=False,
        ),
    )
    trainer.train()
    (group,) = reward.last.groups
    assert len(group.votes) == 4
    assert list(trainer._logs["rewards"]["coderl"]) == pytest.approx(list(group.votes))
    assert trl_advantages(group.votes, Scale.STD) == pytest.approx(list(trainer._logs["advantages"]), abs=1e-3)
    assert any(not torch.equal(one, before[name]) for name, one in trainer.model.state_dict().items())


GAPS = [
    {"id": f"kept/{n}", "kind": "infill", "prompt": f"def triple_{n}(x):\n    y =", "suffix": "\n    return y\n",
     "reference": " 3 * x"}
    for n in range(24)
] + [
    {"id": f"gap/{n}", "kind": "infill", "prompt": f"def double_{n}(x):\n    y =", "suffix": "\n    return y\n",
     "tests": [f"assert double_{n}({x}) == {2 * x}" for x in (1, 2, 5, 7)], "entry_point": f"double_{n}",
     "reference": " 2 * x"}
    for n in range(24)
]  # fmt: skip


def command(place: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "coderl_server", "train", *more, "--runs", str(place / "runs")],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )


@pytest.mark.slow
@pytest.mark.usefixtures("trl")
def test_the_command_trains_by_trl_into_a_run_like_any_other(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "gaps.jsonl").write_text("".join(json.dumps(one) + "\n" for one in GAPS), encoding="utf-8")
    changes = (
        "grpo.steps=3", "grpo.groups=2", "grpo.samples=4", "grpo.max_tokens=6", "grpo.evaluate_every=2", "grpo.updates=2",
        "grpo.mask_truncated=false", "grpo.learning_rate=1e-2", "rewards.weights.agreement=1", "rewards.weights.fractional=0",
    )  # fmt: skip
    settings = [part for one in changes for part in ("--set", one)]
    jail = ("--unjailed-because", "the model of this test writes noise")
    done = command(tmp_path, "trl", "--model", str(folder), "--tasks", "gaps.jsonl", *settings, *jail, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told) == {"run_dir", "steps", "best", "heldout", "report"}
    run = Path(told["run_dir"])
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["step"] for row in rows] == list(range(told["steps"] + 1)) == [0, 1, 2, 3]
    assert [row["gradient_step"] for row in rows[1:]] == [2, 4, 6]
    assert {"reward", "loss", "entropy", "groups", "time/sample_s", "time/judge_s", "time/learn_s"} <= rows[1].keys()
    assert all(row["memory/peak_mb"] > 0 for row in rows)
    assert [row["step"] for row in rows if "validation/solve" in row] == [0, 2, 3]
    assert told["heldout"]["n"] == rows[0]["heldout/n"] > 0
    assert json.loads((run / "manifest.json").read_text(encoding="utf-8"))["status"] == "finished"
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [sample["step"] for sample in samples] == [1] * 8 + [2] * 8 + [3] * 8
    assert any(sample["advantage"] for sample in samples)
    assert read_lora(run / "best").rank == 16


@pytest.mark.usefixtures("trl")
def test_the_command_says_what_trl_cannot(folder: Path, tmp_path: Path) -> None:
    refused = command(tmp_path, "small", "--engine", "trl", "--model", str(folder))
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "sft.epochs=0" in refused.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()
