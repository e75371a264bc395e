"""What a training run is made of, as one frozen tree that a TOML file fills. The run folder keeps what is resolved here.

    name = "small"
    tasks = ["HumanEval-SingleLineInfilling.jsonl.gz", "shipped"]
    [rewards.weights]
    fractional = 1.0

Unknown names are refused with the ones that are known; paths of tasks are relative to the file.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from coderl_generator.complete import Budget
from coderl_store.records import Origin

from .advantages import Scale
from .clipping import AdaptiveClip, EntropySchedule
from .engine import EngineName, Loss, LossSettings, Normalisation
from .errors import RecipeError
from .feedback import Baseline, Learning, Method, Objective
from .repair.recipe import RepairRecipe
from .rewards import RewardConfig
from .run_files import canonical
from .tasks import SHIPPED


class Schedule(StrEnum):
    """How the learning rate moves after its warm-up."""

    CONSTANT = "constant"
    LINEAR = "linear"
    """Down to a twentieth at the last step."""


@dataclass(frozen=True, slots=True)
class SftRecipe:
    """Supervised warm-up on references and kept text. 0 epochs = none."""

    epochs: int = 3
    batch_tokens: int = 1500
    """Positions of one gradient step, prompts included."""
    gaps: int = 2
    """Lines cut out of each whole function, where the template shows the text behind a gap; 0 = functions stay whole."""
    learning_rate: float = 5e-4
    warmup_steps: int = 10
    schedule: Schedule = Schedule.LINEAR


@dataclass(frozen=True, slots=True)
class GrpoRecipe:
    """Group-relative policy optimisation. 0 steps = none."""

    steps: int = 40
    groups: int = 8
    """Groups that are learned from in one step, if so many can be found."""
    samples: int = 8
    """Samples of one group."""
    max_tokens: int = 48
    temperature: float = 1.0
    top_p: float = 1.0
    one_line: bool = False
    """Only tasks whose right answer is one line: they cost few tokens, and a model without an end of its own ends them."""
    resample: int = 2
    """Times that groups which teach nothing are replaced by others; what is left then is learned from."""
    loss: Loss = Loss.PPO
    normalisation: Normalisation = Normalisation.SEQUENCES
    scale: Scale = Scale.STD
    epsilon_low: float = 0.2
    epsilon_high: float = 0.28
    clip_target: float | None = None
    """Share of clipped tokens that `epsilon_high` is moved towards, step by step; None = it stays."""
    kl: float = 0.0
    entropy: float = 0.0
    """Coefficient of the entropy in the first step."""
    entropy_end: float | None = None
    """In the last one, on a straight line; None = the same."""
    entropy_target: float | None = None
    """Entropy in nats per token around which the coefficient is raised and lowered; None = it is not."""
    updates: int = 1
    """Gradient steps on the groups of one step; from the second on the ratio is not 1 and the clip binds."""
    mask_truncated: bool = True
    """Samples that were cut off at the token budget do not vote and are not learned from."""
    learning_rate: float = 1e-4
    warmup_steps: int = 3
    schedule: Schedule = Schedule.CONSTANT
    evaluate_every: int = 20
    """Steps between two looks at the validation tasks; the best weights by them are the run's result."""

    @property
    def clip(self) -> AdaptiveClip | None:
        """What moves `epsilon_high`."""
        return None if self.clip_target is None else AdaptiveClip(epsilon=self.epsilon_high, target=self.clip_target)

    @property
    def entropy_schedule(self) -> EntropySchedule:
        """What moves the coefficient of the entropy."""
        return EntropySchedule(self.entropy, end=self.entropy_end, steps=max(self.steps - 1, 0), target=self.entropy_target)

    def loss_settings(self, clip: AdaptiveClip | None, entropy: EntropySchedule) -> LossSettings:
        """Of the next gradient step."""
        return LossSettings(
            self.loss,
            self.normalisation,
            constant_tokens=self.max_tokens,
            epsilon_low=self.epsilon_low,
            epsilon_high=self.epsilon_high if clip is None else clip.epsilon,
            kl=self.kl,
            entropy=entropy.coefficient,
        )


@dataclass(frozen=True, slots=True)
class LoggedRecipe:
    """Learning from logged suggestions (`coderl train --from-log`); the meanings are those of `coderl_trainer.feedback`."""

    method: Method = Method.REINFORCE
    objective: Objective = Objective.SECONDS
    baseline: Baseline = Baseline.CONTEXT
    epochs: int = 2
    batch_tokens: int = 4000
    learning_rate: float = 1e-4
    warmup_steps: int = 3
    schedule: Schedule = Schedule.CONSTANT
    beta: float = 0.05
    least_effective: float = 50.0
    """Fewer effective rows than this are an error."""
    agreement_nats: float = 0.1
    """A logged row is learned from where its log-probs are those of the model within so many nats per token."""
    max_prefix_chars: int = 3000
    """Of the language server that wrote the log."""
    look_every: int = 10
    """Steps between two looks at what the log still says about the weights."""
    most_rows: int | None = None
    """So many rows are read at most, evenly spaced in time; None = all."""

    @property
    def learning(self) -> Learning:
        """How rows become training rows."""
        return Learning(self.method, self.objective, self.baseline, least_effective=self.least_effective)


@dataclass(frozen=True, slots=True)
class RolloutsRecipe:
    """Samples drawn by a vLLM server instead of the engine; the meanings are those of `coderl_trainer.served_engine`."""

    server: str = ""
    """`http://host:port`; empty = the engine samples itself."""
    model: str = ""
    """The server's name of the untrained model; empty = the only one it serves."""
    api_key_env: str = ""
    """Name of the environment variable that holds the server's key; empty = it wants none."""
    timeout_s: float = 300.0
    """Of one answer."""
    parallel: int = 32
    """Prompts that are asked at once."""
    tolerance_nats: float = 0.1
    """Most mean difference per token between the server's log-probs and the engine's before the run stops."""
    truncate_at: float = 3.0
    """Cap of the importance weights between the two; 0 = no weights, the ratio of the loss is taken against the server's."""


@dataclass(frozen=True, slots=True)
class LogSource:
    """The log that a run learns from. `coderl train --from-log` fills it in; a run that goes on reads it again."""

    database: str = ""
    """SQLAlchemy URL, without its password; empty = the log of this installation."""
    origins: tuple[str, ...] = (Origin.EDITOR.value,)
    """Whose sessions."""
    gate: str | None = None
    """Folder of the critic; None = the estimates with which it was decided."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.origins) - set(Origin))
        if unknown or not self.origins:
            raise RecipeError(f"log.origins must name some of {', '.join(Origin)}, not {', '.join(unknown) or 'nothing'}.")


@dataclass(frozen=True, slots=True)
class SplitRecipe:
    """How problems without official parts are shared out; the rest is held out."""

    train: float = 0.5
    validation: float = 0.1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """One run. Raises `RecipeError` where a value cannot be."""

    name: str = "train"
    engine: EngineName = EngineName.LOCAL
    """What moves the weights."""
    model: str = "embedded"
    """`embedded`, a GGUF file, or a folder in Hugging Face's form; for the engine `tinker` the name of a base model."""
    tasks: tuple[str, ...] = (SHIPPED,)
    """Files of tasks, or `shipped`."""
    seed: int = 0
    lora_rank: int = 16
    lora_alpha: float = 32.0
    device: str = "cpu"
    threads: int | None = None
    max_positions: int = 1024
    """Most positions that go through the model at once."""
    template: str = "plain"
    """How prompts are written, for learning and for what is measured after it."""
    template_before: str = ""
    """How the untrained model is asked for what is measured before, where it does not know the template; empty = the same."""
    max_prefix_chars: int = 1500
    held_out_limit: int | None = None
    """Held-out tasks that are judged before and after; None = all."""
    validation_limit: int | None = 64
    checkpoint_every: int = 10
    judge_parallel: int = 2
    judge_cpu_s: float = 2.0
    """Processor time of one call of a judged program, in seconds; a program gets five times that for all of its calls."""
    split: SplitRecipe = field(default_factory=SplitRecipe)
    sft: SftRecipe = field(default_factory=SftRecipe)
    grpo: GrpoRecipe = field(default_factory=GrpoRecipe)
    rollouts: RolloutsRecipe = field(default_factory=RolloutsRecipe)
    logged: LoggedRecipe = field(default_factory=LoggedRecipe)
    log: LogSource | None = None
    """None = it learns from tasks."""
    repair: RepairRecipe | None = None
    """Not None = it learns from agents that repair repositories; the tasks are repairs, or are made into some."""
    rewards: RewardConfig = field(default_factory=RewardConfig)

    @property
    def budget(self) -> Budget:
        """How prompts are rendered and answers read."""
        return Budget(
            max_tokens=self.grpo.max_tokens,
            template=self.template,
            max_prefix_chars=self.max_prefix_chars,
            anchor_chars=self.max_prefix_chars // 3,
        )

    @property
    def budget_before(self) -> Budget:
        """The same for the untrained model."""
        return replace(self.budget, template=self.template_before or self.template)

    def __post_init__(self) -> None:
        wrong = [
            name
            for name, value in (
                ("sft.epochs", self.sft.epochs),
                ("sft.gaps", self.sft.gaps),
                ("grpo.steps", self.grpo.steps),
                ("grpo.resample", self.grpo.resample),
                ("lora_rank", self.lora_rank),
            )
            if value < 0
        ] + [
            name
            for name, value in (
                ("sft.batch_tokens", self.sft.batch_tokens),
                ("logged.epochs", self.logged.epochs),
                ("logged.batch_tokens", self.logged.batch_tokens),
                ("logged.look_every", self.logged.look_every),
                ("logged.most_rows", 2 if self.logged.most_rows is None else self.logged.most_rows),
                ("grpo.groups", self.grpo.groups),
                ("grpo.updates", self.grpo.updates),
                ("grpo.max_tokens", self.grpo.max_tokens),
                ("grpo.evaluate_every", self.grpo.evaluate_every),
                ("checkpoint_every", self.checkpoint_every),
                ("judge_parallel", self.judge_parallel),
                ("max_positions", self.max_positions),
            )
            if value < 1
        ]
        wrong += [] if self.judge_cpu_s > 0 else ["judge_cpu_s"]
        if wrong:
            raise RecipeError(f"{', '.join(wrong)}: too small.")
        if self.template_before and (self.log is not None or self.repair is not None):
            raise RecipeError("template_before goes with tasks that are solved at once: set it to nothing (template_before=).")
        if self.rollouts.server and self.log is not None:
            raise RecipeError("rollouts.server has no meaning for a run from the log: nothing is sampled.")
        if self.grpo.samples < 2:
            raise RecipeError("grpo.samples must be 2 or more: a sample is compared with others of its group.")
        if not self.tasks:
            raise RecipeError("tasks: at least one file, or `shipped`.")
        if self.rollouts.server:
            self._check_rollouts()
        if self.repair is not None and (self.log is not None or not self.rollouts.server):
            raise RecipeError("Learning from repairs needs rollouts.server, a vLLM server that agents ask, and no log.")

    def _check_rollouts(self) -> None:
        if self.engine is not EngineName.LOCAL or not self.lora_rank:
            raise RecipeError("rollouts.server needs the engine `local` and an adapter (lora_rank of 1 or more) to send.")
        if self.grpo.temperature != 1.0 or self.grpo.top_p != 1.0:
            raise RecipeError(
                "rollouts.server needs grpo.temperature and grpo.top_p to be 1: a vLLM server tells log-probs before both."
            )
        if self.rollouts.parallel < 1 or min(self.rollouts.timeout_s, self.rollouts.tolerance_nats) <= 0:
            raise RecipeError("rollouts.parallel, rollouts.timeout_s, rollouts.tolerance_nats: too small.")
        if self.rollouts.truncate_at and self.rollouts.truncate_at < 1.0:
            raise RecipeError("rollouts.truncate_at must be 1 or more, or 0 for no weights.")


def shipped_recipes() -> Mapping[str, Path]:
    """Name → file of the recipes that come with the package."""
    return MappingProxyType({path.stem: path for path in sorted((Path(__file__).parent / "recipes").glob("*.toml"))})


def read_recipe(path: Path) -> Recipe:
    """A TOML file, or the name of a shipped recipe. Raises `RecipeError` naming file and key."""
    if not path.suffix and not path.exists():
        shipped = shipped_recipes()
        if str(path) not in shipped:
            raise RecipeError(f"There is no recipe {path}: name a TOML file, or one of {', '.join(shipped)}.")
        path = shipped[str(path)]
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path} is no recipe that can be read: {error}") from error
    try:
        recipe = recipe_of(given)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error
    files = tuple(name if name == SHIPPED else str((path.parent / name).resolve()) for name in recipe.tasks)
    return replace(recipe, tasks=files)


def recipe_of(given: Mapping[str, Any]) -> Recipe:
    """A mapping, such as a run's config.json, as a recipe. Raises `RecipeError`."""
    made: Recipe = _filled(Recipe, given, "")
    return made


def with_changes(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """The recipe with `key=value` for each change (`grpo.steps=5`); values are TOML, else texts. The whole is checked when all
    are made, so their order says nothing but which of two for one key stays: the last. Raises `RecipeError`."""
    tree = json.loads(canonical(recipe))
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"{change!r} is no change: write key=value.")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *above, name = key.strip().split(".")
        place = tree
        for part in above:
            place = place.get(part)
            if not isinstance(place, dict):
                raise RecipeError(f"{key.strip()} is not known.")
        place[name] = value
    return recipe_of(tree)


def _filled(kind: type[Any], given: Mapping[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    known = [one.name for one in fields(kind)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise RecipeError(f"{where}{unknown[0]} is not known; known are {', '.join(known)}.")
    return kind(**{name: _value(hints[name], value, where + name) for name, value in given.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        inner = [one for one in get_args(hint) if one is not type(None)]
        return None if value is None else _value(inner[0], value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            raise RecipeError(f"{where} must be a list of texts.")
        return tuple(value)
    if hint is float or hint is int:
        return _number(hint, value, where)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        if value not in [one.value for one in hint]:
            raise RecipeError(f"{where} must be one of {', '.join(hint)}, not {value!r}.")
        return hint(value)
    if not isinstance(value, Mapping if origin or hasattr(hint, "__dataclass_fields__") else hint):
        raise RecipeError(f"{where} cannot be {value!r}.")
    if hasattr(hint, "__dataclass_fields__"):
        return _filled(hint, value, f"{where}.")
    if origin is not None:
        return MappingProxyType({str(name): _number(float, one, f"{where}.{name}") for name, one in value.items()})
    return value


def _number(kind: type[Any], value: Any, where: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or (kind is int and not float(value).is_integer()):
        raise RecipeError(f"{where} must be a {'whole number' if kind is int else 'number'}, not {value!r}.")
    return kind(value)
