"""`TrlTraining`: the GRPO steps of a recipe by TRL's `GRPOTrainer`, into a run folder that looks like every other.

What is measured before, between and after is measured as our own loop does it, greedily on the trained weights; the best by the
validation tasks lie in `best/`. Not covered: tasks come in TRL's shuffled order and not by the curriculum, a run writes no
checkpoints and cannot be gone on with, and one process trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from coderl_generator.extract import Mode

from .checkpoints import keep_best
from .environment import Environment, mode_of
from .errors import RecipeError
from .judge import Judge
from .local_model import LocalOptions, adapter_config, end_ids, libraries, load_model, written_into
from .loop import Parts, held_out, teaches
from .peak_memory import MEMORY, peak_mb
from .progress import Progress
from .recipe import Recipe
from .rewards import Rewards
from .runs import RunFolder
from .torch_sampler import TorchSampler
from .trl_adapter import TaskReward, environment_of, grpo_config, line_end_ids, run_callback, task_dataset
from .trying import Trial, greedily
from .types import Sample, SamplingParameters, Task

_SCRATCH: Final = "trl"
"""The folder in a run that is TRL's own."""


class TrlTraining:
    """One run. `run` is open; what is made here is closed by whoever made it."""

    def __init__(
        self,
        recipe: Recipe,
        parts: Parts,
        options: LocalOptions,
        judge: Judge,
        run: RunFolder,
        *,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Loads the model. Raises `RecipeError` where TRL cannot do what the recipe says or there is nothing to learn from, and
        `EngineRefused` where a library is missing or the model cannot be loaded."""
        self.run = run
        self._recipe, self._parts, self._judge, self._say = recipe, parts, judge, say
        settings = grpo_config(recipe, run.path / _SCRATCH)
        torch, transformers = libraries()
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        self._tokenizer, model = load_model(transformers, options, torch.float32)
        ends = end_ids(model.generation_config, self._tokenizer)
        self._environment = environment_of(self._tokenizer, recipe.budget, ends)
        tasks = [task for task in parts.train if teaches(task, recipe, self._environment)]
        self._require(tasks)
        if all(mode_of(task) is Mode.SINGLE_LINE for task in tasks):
            model.generation_config.eos_token_id = [*ends, *line_end_ids(self._tokenizer)]
        else:
            say("Some tasks ask for blocks: TRL samples all to the budget, and learns what the language server would cut off.")
        self._reward = TaskReward(
            tasks, self._environment, judge, Rewards(recipe.rewards), mask_truncated=recipe.grpo.mask_truncated
        )
        self._trainer = self._made(model, settings, tasks, adapter_config(options) if options.lora_rank else None)
        self._sampler = _ModelSampler(torch, transformers, self._trainer.model, self._environment)
        self._best: tuple[int, float] = (0, -1.0)
        self._best_weights: dict[str, Any] = {}

    @property
    def steps(self) -> int:
        """In all."""
        return self._recipe.grpo.steps

    def train(self, progress: Progress) -> dict[str, Any]:
        """Go to the end; returns the manifest's `results`. What is best by the validation tasks lies in `best/`."""
        trial = self._try(self._parts.held_out, "held-out tasks before training")
        before = {one.task.id: one.solved for one in trial.tried}
        first = {"heldout/solve": trial.solve_rate, "heldout/n": len(trial.graded), **self._look(0)}
        self.run.record(0, {**first, MEMORY: peak_mb()})
        self._trainer.add_callback(
            run_callback(self.run, self._reward, self._recipe.grpo, look=self._look, told=progress.update)
        )
        self._trainer.train()
        scratch = self.run.path / _SCRATCH
        if scratch.is_dir() and not any(scratch.iterdir()):
            scratch.rmdir()
        if not self._best_weights:  # nothing to tell by
            self._keep(self.steps, -1.0)
        for name, weight in self._trained():
            weight.data.copy_(self._best_weights[name])
        trial = self._try(self._parts.held_out, "held-out tasks after training")
        return {"heldout": held_out(self.run, before, trial), "best": {"step": self._best[0], "by": "validation/solve"}}

    # -- inside ------------------------------------------------------------------------------------------------------------

    def _require(self, tasks: Sequence[Task]) -> None:
        """Raises `RecipeError` for what would go wrong without a word."""
        groups = self._recipe.grpo.groups
        if len(tasks) < groups:
            raise RecipeError(f"TRL takes {groups} different tasks a step (grpo.groups), there are {len(tasks)} to learn from.")
        asked = self._environment.ask(tasks[0])
        if tuple(self._tokenizer(asked.prompt.text)["input_ids"]) != asked.tokens:
            raise RecipeError(
                "The tokenizer of this model puts a token before every text, which TRL would train with and the language "
                "server does not send; take the engine `local`."
            )

    def _made(self, model: Any, settings: Any, tasks: Sequence[Task], adapter: Any) -> Any:
        from transformers import PrinterCallback
        from trl import GRPOTrainer

        trainer = GRPOTrainer(
            model=model,
            reward_funcs=self._reward,
            args=settings,
            train_dataset=task_dataset(tasks, self._environment),
            processing_class=self._tokenizer,
            peft_config=adapter,
        )
        trainer.remove_callback(PrinterCallback)  # standard output is the result's
        return trainer

    def _look(self, step: int) -> dict[str, float | None]:
        """Where it is time: how the validation tasks go."""
        if not self._parts.validation or (step % self._recipe.grpo.evaluate_every and step != self.steps):
            return {}
        rate = self._try(self._parts.validation, f"validation tasks after step {step}").solve_rate
        if rate is not None and rate > self._best[1]:
            self._keep(step, rate)
        return {"validation/solve": rate}

    def _keep(self, step: int, rate: float) -> None:
        """Make the present weights the run's result."""
        self._best = (step, rate)
        self._best_weights = {name: weight.detach().clone() for name, weight in self._trained()}
        keep_best(self.run.path, self._write)

    def _write(self, folder: Path) -> None:
        with written_into(folder):
            if self._recipe.lora_rank:
                self._trainer.model.save_pretrained(str(folder), save_embedding_layers=False)
            else:
                self._trainer.model.save_pretrained(str(folder))
                self._tokenizer.save_pretrained(str(folder))

    def _trained(self) -> list[tuple[str, Any]]:
        return [(name, one) for name, one in self._trainer.model.named_parameters() if one.requires_grad]

    def _try(self, tasks: tuple[Task, ...], what: str) -> Trial:
        self._say(f"{len(tasks)} {what} …")
        trial = greedily(self._sampler, self._environment, self._judge, tasks, self._recipe.grpo.max_tokens)
        if trial.solve_rate is not None:
            self._say(f"{trial.solve_rate:.1%} of {len(trial.graded)} {what} solved.")
        return trial


class _ModelSampler:
    """Draws from a model while somebody else trains it."""

    def __init__(self, torch: Any, transformers: Any, model: Any, environment: Environment) -> None:
        def ended(tokens: Sequence[int], parameters: SamplingParameters) -> bool:
            return parameters.ends_by_text and parameters.complete(environment.decode(list(tokens)))

        self._model = model
        self._sampler = TorchSampler(torch, model, transformers.DynamicCache, frozenset(environment.ends), ended)
        self._random = torch.Generator().manual_seed(0)

    def sample(self, prompts_P: Sequence[Sequence[int]], samples: int, parameters: SamplingParameters) -> list[list[Sample]]:
        """See `Engine.sample`."""
        trains = self._model.training
        self._model.eval()
        try:
            return self._sampler.draw(prompts_P, samples, parameters, self._random, 0)
        finally:
            self._model.train(trains)
