"""Our tasks and rewards for TRL's `GRPOTrainer`: a data set, a reward function, a configuration and a callback.

Only what TRL documents is touched: the constructor, fields of the configuration, reward functions and callbacks. TRL,
transformers and datasets are imported when one of these is made, never before (coderl[train,trl]).

A completion is read from its token ids by the `Environment`, as the language server would show it; what is judged and rewarded
is that text. Covered: a grader that fails and, unless told otherwise, a sample that was cut off are None, which TRL leaves out
of the group; groups that only tie-breakers tell apart get one reward, so that TRL learns nothing from them. Not covered: the
tokens behind the place where reading stopped are in TRL's loss (`line_end_ids` ends samples of one-line tasks); several
processes, which TRL may give parts of a group each.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from coderl_generator.backend import FinishReason
from coderl_generator.complete import Budget
from coderl_generator.extract import Extracted

from .advantages import Scale, group_advantages
from .engine import Loss, Normalisation
from .environment import Asked, Environment
from .errors import EngineRefused, RecipeError, TaskError
from .judge import Judge
from .metric_names import NAME
from .peak_memory import MEMORY, peak_mb
from .recipe import GrpoRecipe, Recipe, Schedule
from .rewards import Rewards
from .rollouts import Gathered, Group, Scoring
from .run_metrics import of_rollouts, rows_of
from .runs import RunFolder, SampleRow
from .types import Sample, StopReason, Task

LOSSES: Final[Mapping[tuple[Loss, Normalisation], Mapping[str, Any]]] = MappingProxyType(
    {
        (Loss.PPO, Normalisation.SEQUENCES): {"loss_type": "grpo"},
        (Loss.PPO, Normalisation.CONSTANT): {"loss_type": "dr_grpo"},
        (Loss.PPO, Normalisation.TOKENS): {"loss_type": "dapo"},
        (Loss.GSPO, Normalisation.SEQUENCES): {"loss_type": "grpo", "importance_sampling_level": "sequence"},
        (Loss.CISPO, Normalisation.TOKENS): {"loss_type": "cispo"},
    }
)
"""What a loss of a recipe is called by TRL; that they are the same is tested (tests/trainer/test_trl_parity.py)."""
_ADDED: Final = 1e-4
"""What TRL adds to the deviation that rewards are divided by."""


def environment_of(tokenizer: Any, budget: Budget | None = None, ends: Sequence[int] = ()) -> Environment:
    """Asks and reads with a tokenizer of transformers. `ends`: ids that end a sequence; without any, the tokenizer's own.

    Raises `TaskError` for a template that token prompts cannot carry.
    """
    own = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
    return Environment(
        encode=lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"]),
        decode=lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)),
        ends=tuple(ends) or own,
        budget=budget or Budget(),
    )


def line_end_ids(tokenizer: Any) -> tuple[int, ...]:
    """Ids of the tokens with a line break in them. As further ends of a sequence in the model's generation configuration they
    end samples where one line is asked for; one that begins with a line break is then empty."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    return tuple(token for token, text in enumerate(texts) if "\n" in text)


def task_dataset(tasks: Sequence[Task], environment: Environment) -> Any:
    """A `datasets.Dataset` with the columns `prompt`, as the environment renders it, and `task_id`.

    Raises `EngineRefused` without datasets, and `TaskError` for a prompt without a token.
    """
    try:
        from datasets import Dataset
    except ImportError as error:
        raise EngineRefused(f"Tasks for TRL need datasets ({error}); install coderl[train,trl].") from error
    return Dataset.from_list([{"prompt": environment.ask(task).prompt.text, "task_id": task.id} for task in tasks])


class TaskReward:
    """A reward function in TRL's form. `last` holds the groups of its last call, for a `run_callback`."""

    __name__ = "coderl"
    """What TRL's metrics call it."""

    def __init__(
        self,
        tasks: Sequence[Task],
        environment: Environment,
        judge: Judge,
        rewards: Rewards | None = None,
        *,
        mask_truncated: bool = True,
    ) -> None:
        """`mask_truncated`: samples that were cut off at the budget get None; the budget is the environment's."""
        self._tasks = {task.id: task for task in tasks}
        self._environment = environment
        self._scoring = Scoring(judge, rewards or Rewards(), mask_truncated)
        self._asked: dict[str, Asked] = {}
        self.last = Gathered()
        self.began_s = self.ended_s = time.monotonic()
        """When the last call began and ended."""

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]] | None = None,
        task_id: Sequence[str] = (),
        **_columns: Any,
    ) -> list[float | None]:
        """The rewards; None = does not vote. Without token ids the completions are cut into tokens again.

        Rows of one task that follow one another are a group. Raises `TaskError` without the column `task_id` and for a task
        that is not known, and `TooManyUngraded`.
        """
        self.began_s = time.monotonic()
        if len(task_id) != len(prompts):
            raise TaskError("The data set needs the column task_id; trl_adapter.task_dataset makes one.")
        ids = completion_ids if completion_ids is not None else [self._environment.encode(text) for text in completions]
        rows = list(zip(task_id, ids, strict=True))
        asked_P, samples_PG, read_PG = [], [], []
        for name, group in groupby(rows, key=lambda row: row[0]):
            asked = self._ask(name)
            both = [self._read(asked, tuple(map(int, tokens))) for _, tokens in group]
            asked_P.append(asked)
            samples_PG.append([sample for sample, _ in both])
            read_PG.append([read for _, read in both])
        groups = self._scoring.groups(asked_P, samples_PG, read_PG, [1] * len(asked_P))
        self.ended_s = time.monotonic()
        self.last = Gathered(groups, judge_s=self.ended_s - self.began_s)
        return [vote for group in groups for vote in _lessons(group)]

    def _ask(self, name: str) -> Asked:
        if name not in self._asked:
            if name not in self._tasks:
                raise TaskError(f"The reward function was not given the task {name!r} of the data set.")
            self._asked[name] = self._environment.ask(self._tasks[name])
        return self._asked[name]

    def _read(self, asked: Asked, tokens: tuple[int, ...]) -> tuple[Sample, Extracted]:
        """A sample counts as cut off where the budget ended before the text was whole."""
        full = len(tokens) >= self._environment.budget.max_tokens and tokens[-1] not in self._environment.ends
        sample = Sample(tokens, (0.0,) * len(tokens), StopReason.LENGTH if full else StopReason.STOP, 0)
        read = self._environment.read(asked, sample)
        return (sample if read.finish is FinishReason.LENGTH else replace(sample, stop_reason=StopReason.STOP)), read


def grpo_config(recipe: Recipe, folder: Path, **more: Any) -> Any:
    """TRL's `GRPOConfig` that says what the recipe's `grpo` says; `more` are further fields of it, which win.

    A gradient step takes one group after the other. The learning rate's first step of warm-up is 0, as transformers has it.
    Raises `RecipeError` for what TRL has no word for, all of it in one sentence, and `EngineRefused` without TRL.
    """
    refuse(recipe)
    try:
        from trl import GRPOConfig
    except ImportError as error:
        raise EngineRefused(f"The engine `trl` needs TRL ({error}); install coderl[train,trl].") from error
    grpo = recipe.grpo
    given: dict[str, Any] = {
        "output_dir": str(folder),
        "seed": recipe.seed,
        "use_cpu": recipe.device == "cpu",
        "bf16": False,
        "max_steps": grpo.steps * grpo.updates,
        "num_iterations": grpo.updates,
        "per_device_train_batch_size": grpo.samples,
        "gradient_accumulation_steps": grpo.groups,
        "num_generations": grpo.samples,
        "max_completion_length": grpo.max_tokens,
        "temperature": grpo.temperature,
        "top_p": grpo.top_p,
        **LOSSES[grpo.loss, grpo.normalisation],
        "scale_rewards": "group" if grpo.scale is Scale.STD else "none",
        "epsilon": grpo.epsilon_low,
        # TRL's bound of CISPO is the largest ratio itself, ours what lies above 1.
        "epsilon_high": grpo.epsilon_high + (grpo.loss is Loss.CISPO),
        "beta": grpo.kl,
        "use_bias_correction_kl": False,
        "entropy_coef": grpo.entropy,
        "learning_rate": grpo.learning_rate,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": grpo.warmup_steps * grpo.updates,
        "adam_beta2": 0.95,  # with weight decay 0 and a norm of 1, the `StepSettings` of our engines
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": False,
        "logging_steps": grpo.updates,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }
    return GRPOConfig(**{**given, **more})


def refuse(recipe: Recipe) -> None:
    """Raises `RecipeError` where the recipe asks for what TRL has no word for, with all that has to be set."""
    grpo = recipe.grpo
    wrong = [
        sentence
        for asked_for, sentence in (
            (recipe.sft.epochs > 0, "sft.epochs=0 (warm up by `coderl sft` and train what `coderl export` makes of it)"),
            (bool(recipe.template_before), "template_before= (empty)"),
            (grpo.steps == 0, "grpo.steps above 0"),
            (grpo.resample > 0, "grpo.resample=0 (it learns from the groups it has drawn)"),
            (
                (grpo.loss, grpo.normalisation) not in LOSSES,
                "grpo.loss and grpo.normalisation one of " + ", ".join(f"{loss} and {by}" for loss, by in LOSSES),
            ),
            (grpo.clip_target is not None, "no grpo.clip_target (its clip does not move)"),
            (
                grpo.entropy != 0 and grpo.normalisation is not Normalisation.TOKENS,
                "grpo.entropy=0 unless grpo.normalisation is tokens (its entropy is a mean over tokens)",
            ),
            (
                grpo.entropy_end is not None or grpo.entropy_target is not None,
                "no grpo.entropy_end and grpo.entropy_target (its coefficient moves by another rule)",
            ),
            (grpo.schedule is not Schedule.CONSTANT, "grpo.schedule=constant (its line ends at 0, ours at a twentieth)"),
            (grpo.temperature <= 0, "grpo.temperature above 0"),
            (grpo.kl != 0 and not recipe.lora_rank, "grpo.kl=0 or lora_rank above 0 (it would load the model by name again)"),
            (recipe.device not in ("cpu", "cuda"), "device=cpu or device=cuda"),
        )
        if asked_for
    ]
    if wrong:
        raise RecipeError(f"TRL cannot do what the recipe asks for; set {'; '.join(wrong)}.")


@dataclass(slots=True)
class _Clock:
    """Seconds since the last row of metrics."""

    step_began_s: float = 0.0
    sample_s: float = 0.0
    learn_s: float = 0.0
    seen_s: float = field(default=-math.inf)
    """When the reward function was last called, as far as it was counted."""

    def step(self, reward: TaskReward, now_s: float) -> None:
        """A gradient step is over."""
        if reward.began_s > max(self.seen_s, self.step_began_s):
            self.sample_s += reward.began_s - self.step_began_s
            self.learn_s += now_s - reward.ended_s
            self.seen_s = reward.began_s
        else:
            self.learn_s += now_s - self.step_began_s


def run_callback(
    run: RunFolder,
    reward: TaskReward,
    recipe: GrpoRecipe,
    *,
    look: Callable[[int], Mapping[str, float | None]] = lambda _step: {},
    told: Callable[[Mapping[str, Any]], None] = lambda _row: None,
) -> Any:
    """A `TrainerCallback` that writes a row of metrics and the samples whenever TRL logs; `logging_steps` has to be
    `recipe.updates`.

    Figures are TRL's under its names, and ours where `metric_names` lists them; of those that both have, ours. `look` is asked
    after each step for more of them (validation), `told` gets the row.
    """
    from transformers import TrainerCallback

    clock = _Clock()

    class Writer(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            clock.step_began_s = time.monotonic()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.step(reward, time.monotonic())

        def on_log(self, _args: Any, state: Any, _control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
            if logs is None or "loss" not in logs:  # the summary at the end
                return
            gathered = reward.last
            gathered.sample_s = clock.sample_s
            step = state.global_step // recipe.updates
            metrics = {name: value for name, value in logs.items() if NAME.fullmatch(name)}
            metrics |= {name: value for name, value in of_rollouts(gathered).items() if value is not None}
            metrics |= {"gradient_step": state.global_step, "time/learn_s": clock.learn_s, **look(step), MEMORY: peak_mb()}
            clock.sample_s = clock.learn_s = 0.0
            told(run.record(step, metrics, _rows(gathered, recipe)))

    return Writer()


def trl_advantages(rewards_G: Sequence[float | None], scale: Scale) -> list[float]:
    """(G,) as TRL has them: divided by the deviation of a sample, not of a population, plus 1e-4."""
    centred = group_advantages(rewards_G, scale=Scale.NONE)
    votes = [reward for reward in rewards_G if reward is not None]
    if scale is Scale.NONE or len(votes) < 2:
        return centred
    return [one / (statistics.stdev(votes) + _ADDED) for one in centred]


def _rows(gathered: Gathered, recipe: GrpoRecipe) -> list[SampleRow]:
    """As `rows_of` has them, with TRL's advantages."""
    theirs = [one for group in gathered.groups for one in trl_advantages(group.votes, recipe.scale)]
    return [
        row if row.advantage is None else replace(row, advantage=advantage)
        for row, advantage in zip(rows_of(gathered, recipe), theirs, strict=True)
    ]


def _lessons(group: Group) -> list[float | None]:
    """(G,) what TRL gets: the votes, and their mean where the group teaches nothing."""
    if group.verdict.degenerate is None:
        return list(group.votes)
    votes = [vote for vote in group.votes if vote is not None]
    return [None if vote is None else statistics.fmean(votes) for vote in group.votes]
