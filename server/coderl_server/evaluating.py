"""`coderl eval`: tasks and a model in; how many the model solves, how exactly and how fast, out.

A sample *solves* a task where the text with it passes all of the task's own tests (`coderl_trainer.judge`, which says what that
verdict is worth). Tasks that an empty completion solves say nothing about a model: they are left out and counted.

One greedy completion per task, or several samples at a temperature, each with a seed of its own that follows from the
options' seed, the task and the sample's number: neither the order of the tasks nor what else is asked changes it.

Tasks are asked one after another and judged in between, so that the judge takes no time from the model. The time of a
completion is that of `coderl_generator.complete`, from the request to the finished text, the reading of the prompt included;
of several samples the first counts, the others find the prompt read. With `warm` the text above the place was read before, as
it was in an editor that has the document open; that request is not counted. Nothing else is taken over from earlier tasks: the
embedded backend's shifting of keys and values is off (`LlamaCppBackend.repeatable`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from coderl_generator.backend import Backend
from coderl_generator.complete import Budget, Completion, complete
from coderl_generator.errors import GeneratorError
from coderl_generator.extract import Mode
from coderl_generator.prompt import Place
from coderl_generator.several import complete_several
from coderl_trainer.environment import mode_of
from coderl_trainer.judge import Judge, JudgeLimits, Outcome, Ungraded, open_judge
from coderl_trainer.types import Task, TaskKind

from .errors import InputError, ServerFailed
from .eval_rows import JUDGE_FAILED, SOLVED, TRIVIAL, UNTESTED, Row, append_row, rows_to_go_on_from
from .evaluated import Evaluated
from .model_choice import model_file
from .task_choice import TaskChoice
from .templates import chosen_template
from .time_saving import TypingOptions, check_files, time_saved

AUTO: Final = "auto"
"""The mode that fits a task: one line where its answer is one, a block, or for whole functions the body."""
TEMPERATURE: Final = 0.8
"""Of several samples, unless told otherwise (Chen et al. 2021, §3.3, for many samples); likewise `TOP_P`."""
TOP_P: Final = 0.95
_GAP_TOKENS, _BODY_TOKENS = 64, 256
_GENERATION_S = 120.0
"""Longest wait for one token: a slow machine must not look like a wrong answer."""


@dataclass(frozen=True, slots=True)
class EvalOptions:
    """What to evaluate, and on what."""

    choice: TaskChoice = field(default_factory=TaskChoice)
    typing: TypingOptions = field(default_factory=TypingOptions)
    backend: str = "llamacpp"
    model: str = "embedded"
    endpoint: str = ""
    api_key_env: str = ""
    script: Path | None = None
    threads: int | None = None
    template: str = ""
    """Empty = the one that fits the model."""
    mode: str = AUTO
    samples: int = 1
    """Of each task; 1 is greedy unless there is a temperature."""
    ks: tuple[int, ...] | None = None
    """Of pass@k; None = 1, 5 and 10, as far as there are samples."""
    temperature: float | None = None
    """None = 0 for one sample, `TEMPERATURE` for several."""
    top_p: float = TOP_P
    """Only with a temperature above 0."""
    max_tokens: int | None = None
    """None = 64 for a gap, 256 for a whole function."""
    limit: int | None = None
    seed: int = 20221
    """Of the draw of tasks, the samples, the simulated programmer and the intervals."""
    timeout_s: int = 5
    """CPU seconds of one task's tests; three times as long by the clock on the wall."""
    warm: bool = False
    forced: bool = True
    """Begun words and needed names are forced on the model, as the language server does; without, as `coderl train` asks."""
    candidates: int = 1
    """To choose from, by the generator's own ranking: there is no gate here."""
    out: Path | None = None
    unjailed_because: str = ""
    """Why the programs may run without a jail; empty = they may not."""

    @property
    def heat(self) -> float:
        """The temperature in force."""
        if self.temperature is not None:
            return self.temperature
        return 0.0 if self.samples == 1 else TEMPERATURE

    def check(self) -> None:
        """Raises `InputError` for options that cannot be, or do not go together."""
        if self.mode not in (*Mode, AUTO):
            raise InputError(f"--mode must be one of {', '.join((*Mode, AUTO))}, not {self.mode!r}.")
        if self.samples > 1 and self.heat <= 0:
            raise InputError("--samples at --temperature 0 are all alike: give a temperature above 0, or one sample.")
        if self.samples > 1 and self.candidates > 1:
            raise InputError("--candidates chooses one answer and --samples wants several: give one of them.")
        if self.ks is not None and max(self.ks) > self.samples:
            raise InputError(f"--k {max(self.ks)} needs --samples {max(self.ks)} or more.")
        check_files(self.typing.files)


Told = Callable[[int, int], None]
"""Hears how many tasks are done, of how many."""


def evaluate(options: EvalOptions, told: Told = lambda _done, _of: None, console: Any = None) -> Evaluated:
    """Run the evaluation: the tasks, then the files, each where there are any. `console`: for the progress of the typing.

    Raises `InputError` for tasks or options that cannot be used, `ServerFailed` where the judge could not judge anything or the
    service died, and the generator's errors where it fails: what was done until then stands in `out`, and a second run goes on
    from there.
    """
    options.check()
    template, warning = _template(options)
    options = replace(options, template=template)
    found = _of_tasks(options, told) if options.choice.given else Evaluated((), _about(options, options.model, ()))
    saved = None
    if options.typing.files:
        saved = time_saved(
            options.typing,
            backend=options.backend,
            model=options.model,
            script=options.script,
            seed=options.seed,
            console=console,
        )
    warnings = (*options.choice.warnings, *([warning] if warning else []))
    return replace(found, ks=options.ks, seed=options.seed, saved=saved, warnings=warnings)


def _template(options: EvalOptions) -> tuple[str, str]:
    """The template and what is wrong with it, if anything. Raises `InputError` for one that does not exist."""
    from coderl_store.home import home

    return chosen_template(options.template, options.backend, options.model, home())


def _of_tasks(options: EvalOptions, told: Told) -> Evaluated:
    tasks = _drawn(options.choice.tasks(), options)
    model = _model(options)
    with open_judge(limits=_limits(options), parallel=1, unjailed_because=options.unjailed_because) as judge:
        about = _about(options, model.generator_id, sorted(judge.guarantees))
        run = _digest(
            {name: about[name] for name in ("generator", "template", "mode", "warm", "candidates", "samples", "temperature")}
            | ({} if options.forced else {"forced": False})
            | {"timeout_s": options.timeout_s, "max_tokens": options.max_tokens}
            | ({"seed": options.seed, "top_p": options.top_p} if options.heat > 0 else {})
        )
        done = rows_to_go_on_from(options.out, run)
        rows = asyncio.run(_evaluate(tasks, model, judge, options, run, done, told))
    if rows and all(row.outcome == JUDGE_FAILED for row in rows):
        raise ServerFailed("The judge failed on every task: its tests cannot be run, or nothing can be run here.")
    return Evaluated(tuple(rows), about)


def _about(options: EvalOptions, generator: str, guarantees: Sequence[str]) -> dict[str, Any]:
    return {
        "generator": generator,
        "template": options.template,
        "mode": options.mode,
        "warm": options.warm,
        "forced": options.forced,
        "candidates": options.candidates,
        "samples": options.samples,
        "temperature": options.heat,
        "top_p": options.top_p if options.heat > 0 else 1.0,
        "part": options.choice.chosen_part,
        "limit": options.limit,
        "seed": options.seed,
        "guarantees": list(guarantees),
    }


def _limits(options: EvalOptions) -> JudgeLimits:
    """One check may use all of the time: HumanEval's tests are one function."""
    cpu_s = options.timeout_s
    return JudgeLimits(call_cpu_s=cpu_s, call_wall_s=3.0 * cpu_s, program_cpu_s=cpu_s + 1, program_wall_s=3.0 * cpu_s)


def _drawn(tasks: list[Task], options: EvalOptions) -> list[Task]:
    """All tasks in the file's order, or the first `limit` of a shuffle that depends on the seed only."""
    if options.limit is None:
        return tasks
    random.Random(options.seed).shuffle(tasks)
    return tasks[: options.limit]


def _model(options: EvalOptions) -> Backend:
    """Raises InputError where an option names what can never work, and ModelMissing or ModelDamaged."""
    from coderl_generator.registry import backend
    from coderl_store.clock import SystemClock

    if options.backend == "openai" and not options.endpoint:
        raise InputError("--backend openai needs --endpoint, the server's base URL up to and including /v1.")
    of_backend: Mapping[str, Callable[[], dict[str, Any]]] = {
        "llamacpp": lambda: {
            "model_path": Path(model_file(options.model)),
            "threads": options.threads,
            "repeatable": True,  # keys and values taken over from the task before would know of its text
        },
        "openai": lambda: {
            "base_url": options.endpoint,
            "model": options.model,
            "api_key_env": options.api_key_env or None,
        },
        "scripted": lambda: {"clock": SystemClock(), "script": options.script},
    }
    made = of_backend.get(options.backend, lambda: {"model": options.model})()
    try:
        return backend(options.backend, **made)
    except GeneratorError as error:
        raise InputError(f"{error}.") from error


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


async def _evaluate(
    tasks: Sequence[Task],
    model: Backend,
    judge: Judge,
    options: EvalOptions,
    run: str,
    done: Mapping[str, Row],
    told: Told,
) -> list[Row]:
    rows: list[Row] = []
    try:
        for task in tasks:
            row = done.get(task.id)
            if row is None:
                row = replace(_about_task(task, await _row(task, model, judge, options)), run=run)
                append_row(options.out, row)
            rows.append(row)
            told(len(rows), len(tasks))
    finally:
        await model.aclose()
    return rows


async def _row(task: Task, model: Backend, judge: Judge, options: EvalOptions) -> Row:
    if task.visible_tests and (await _verdict(judge, task, ""))[0] == SOLVED:
        return Row(task.id, "", TRIVIAL)
    place = Place(task.prompt, task.suffix or "", task.language, task.path)
    budget = budget_of(task, options)
    if options.warm:
        await _read_above(place, model, budget)
    rows = [await _sample(task, place, model, judge, budget, options, number) for number in range(options.samples)]
    if len(rows) == 1:
        return rows[0]
    return replace(
        rows[0],
        outcomes=tuple(row.outcome for row in rows),
        completions=tuple(row.completion for row in rows),
        exacts=tuple(row.exact for row in rows),
    )


async def _sample(
    task: Task, place: Place, model: Backend, judge: Judge, budget: Budget, options: EvalOptions, number: int
) -> Row:
    if options.heat > 0:
        budget = replace(budget, seed=sample_seed(options.seed, task.id, number))
    made = await complete_several(model, place, budget, time.monotonic)
    if made.failure is not None:
        raise made.failure
    done = replace(made.best, tokens_used=made.tokens_used)
    outcome, visible = await _verdict(judge, task, done.text) if task.visible_tests else (UNTESTED, None)
    return _finished(task, outcome, visible, done)


def budget_of(task: Task, options: EvalOptions) -> Budget:
    """What one completion of a task may cost."""
    whole = task.kind is not TaskKind.INFILL
    fitting = Mode.BODY if whole else mode_of(task)
    return Budget(
        max_tokens=options.max_tokens or (_BODY_TOKENS if whole else _GAP_TOKENS),
        mode=fitting if options.mode == AUTO else Mode(options.mode),
        timeout_s=_GENERATION_S,
        temperature=options.heat,
        top_p=options.top_p if options.heat > 0 else 1.0,
        template=options.template,
        heal_word=options.forced,
        need_name=options.forced,
        candidates=options.candidates,
        several_s=_GENERATION_S,
    )


def sample_seed(seed: int, task_id: str, number: int) -> int:
    """The seed of one sample, in [0, 2³¹)."""
    drawn = hashlib.sha256(f"{seed}\0{task_id}\0{number}".encode()).digest()
    return int.from_bytes(drawn[:4], "big") >> 1


def _finished(task: Task, outcome: str, visible: bool | None, done: Completion) -> Row:
    return Row(
        task_id=task.id,
        run="",
        outcome=outcome,
        completion=done.text,
        exact=task.reference is not None and task.reference.rstrip() == done.text.rstrip(),
        latency_ms=round(done.latency_ms, 3),
        first_token_ms=None if done.first_token_ms is None else round(done.first_token_ms, 3),
        tokens=done.tokens_used,
        reason=done.reason.value,
        passed_visible=visible,
    )


def _about_task(task: Task, row: Row) -> Row:
    return replace(
        row,
        group=task.group_id,
        tier=tier_of(task),
        answer_chars=None if task.reference is None else len(task.reference),
        kind=task.kind.value,
    )


def tier_of(task: Task) -> str:
    """How hard a task is said to be, in the words of its file; empty = not said."""
    return task.metadata.get("tier", "") if task.tier is None else task.tier.value


async def _verdict(judge: Judge, task: Task, text: str) -> tuple[str, bool | None]:
    """(Outcome, whether the visible tests pass: None = not judged)."""
    judged = await asyncio.to_thread(judge.judge, task, text)
    if isinstance(judged, Ungraded):
        return JUDGE_FAILED, None
    if judged.solved:
        return SOLVED, True
    late = any(test.outcome is Outcome.TIMED_OUT for test in (*judged.visible, *judged.hidden))
    return (Outcome.TIMED_OUT if late else Outcome.FAILED).value, judged.passed


async def _read_above(place: Place, model: Backend, budget: Budget) -> None:
    """Have the model read the text up to the line before the place."""
    above = place.prefix.rstrip()
    above = above[: above.rfind("\n") + 1]
    if above.strip():
        await complete(model, replace(place, prefix=above), replace(budget, max_tokens=1), time.monotonic)
