"""`coderl eval`: tasks and a model in; how many the model solves, how exactly and how fast, out.

A task is *solved* where the text with the completion in it passes the task's own tests (`coderl_trainer.judge`, which says what
that verdict is worth). Tasks that an empty completion solves say nothing about a model: they are left out and counted.
The interval is Wilson's and treats tasks as independent; tasks of one base problem are not, so it is a little too narrow.

Tasks are asked one after another and judged in between, so that the judge takes no time from the model. The time of a
completion is that of `coderl_generator.complete`, from the request to the finished text, the reading of the prompt included.
With `warm` the text above the place was read before, as it was in an editor that has the document open; that request is not
counted.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from coderl_generator.backend import Backend
from coderl_generator.complete import Budget, Completion, complete
from coderl_generator.errors import BadTask, GeneratorError
from coderl_generator.extract import Mode
from coderl_generator.several import complete_several
from coderl_generator.tasks import InfillTask, read_tasks
from coderl_trainer.judge import Judge, JudgeLimits, Outcome, Ungraded, open_judge
from coderl_trainer.types import Task, TaskKind

from .errors import InputError, ServerFailed
from .simulate.report import percentile

TRIVIAL: Final = "trivial"
"""The outcome of a task that an empty completion solves."""
UNTESTED: Final = "untested"
"""The outcome of a task without tests."""
JUDGE_FAILED: Final = "judge_failed"
"""The tests could not be run: nothing is known of the completion."""
_MAX_TOKENS = 64
_GENERATION_S = 120.0
"""Longest wait for one token: a slow machine must not look like a wrong answer."""


@dataclass(frozen=True, slots=True)
class EvalOptions:
    """What to evaluate, and on what."""

    tasks: Path
    backend: str = "llamacpp"
    model: str = "embedded"
    endpoint: str = ""
    api_key_env: str = ""
    script: Path | None = None
    threads: int | None = None
    template: str = "plain"
    mode: str = Mode.SINGLE_LINE.value
    limit: int | None = None
    seed: int = 20221
    timeout_s: int = 5
    """CPU seconds of one task's tests; three times as long by the clock on the wall."""
    warm: bool = False
    candidates: int = 1
    """To choose from, by the generator's own ranking: there is no gate here."""
    out: Path | None = None
    unjailed_because: str = ""
    """Why the programs may run without a jail; empty = they may not."""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one task; a line of `--out`."""

    task_id: str
    run: str
    """A digest of what was run: rows of another run are not mixed in."""
    outcome: str
    """`passed`, `failed`, `timed_out`, or one of the constants above."""
    completion: str = ""
    exact: bool = False
    latency_ms: float | None = None
    first_token_ms: float | None = None
    tokens: int = 0
    """Decoded."""
    reason: str = ""
    """Why the completion ended."""
    group: str | None = None
    """The base problem, empty where the task names none; None in rows written before this was kept."""
    tier: str = ""
    """How hard the task is said to be; empty = not said."""
    answer_chars: int | None = None
    """Length of the text that was there; None = not known."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Rows with what they were made with."""

    rows: tuple[Row, ...]
    about: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The figures. Shares lie in [0, 1]; `n` tasks have a verdict; what nothing was measured of is None."""
        from coderl_gate.metrics import wilson

        outcomes = Counter(row.outcome for row in self.rows)
        judged = outcomes[Outcome.PASSED] + outcomes[Outcome.FAILED] + outcomes[Outcome.TIMED_OUT]
        low, high = wilson(outcomes[Outcome.PASSED], judged)
        asked = [row for row in self.rows if row.outcome != TRIVIAL]
        times = sorted(row.latency_ms for row in asked if row.latency_ms is not None)
        return {
            "n": judged,
            "pass_at_1": {"estimate": outcomes[Outcome.PASSED] / judged if judged else None, "low": low, "high": high},
            "exact_match": sum(row.exact for row in asked) / len(asked) if asked else None,
            "latency_ms": {"p50": percentile(times, 0.5), "p95": percentile(times, 0.95)},
            "judge_failed": outcomes[JUDGE_FAILED],
            "timed_out": outcomes[Outcome.TIMED_OUT],
            "left_out_as_trivial": outcomes[TRIVIAL],
            "untested": outcomes[UNTESTED],
            **self.about,
        }

    def render(self, console: Any) -> None:
        """One table, and a sentence on what it does not say."""
        from rich.table import Table

        figures = self.to_json()
        solved, times = figures["pass_at_1"], figures["latency_ms"]
        table = Table(title=f"{figures['generator']}, {figures['template']}, {figures['mode']}", title_justify="left")
        for heading in ("tasks", "solved", "95 % interval", "exact", "p50 ms", "p95 ms"):
            table.add_column(heading, justify="right")
        table.add_row(
            str(figures["n"]),
            _share(solved["estimate"]),
            f"{_share(solved['low'])} to {_share(solved['high'])}",
            _share(figures["exact_match"]),
            *("not known" if value is None else f"{value:.0f}" for value in (times["p50"], times["p95"])),
        )
        console.print(table)
        for name, sentence in (
            ("left_out_as_trivial", "left out: an empty line solves them"),
            ("untested", "without tests: only compared with the answer"),
            ("timed_out", "ran out of time; they count as not solved"),
            ("judge_failed", "not judged because the judge failed; they count neither way"),
        ):
            if figures[name]:
                console.print(f"• {figures[name]} tasks {sentence}.", highlight=False)
        if figures["limit"] is not None:
            console.print(f"• {figures['limit']} tasks drawn with the seed {figures['seed']}.", highlight=False)
        if "no_network" not in figures["guarantees"]:
            console.print("• The programs ran without a jail, as you said they may.", highlight=False)


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{value:.1%}"


def evaluate(options: EvalOptions, told: Callable[[int, int], None] = lambda _done, _of: None) -> Evaluated:
    """Run the evaluation; `told` hears how many tasks are done, of how many.

    Raises `InputError` for tasks or options that cannot be used, `ServerFailed` where the judge could not judge anything, and
    the generator's errors where it fails: what was done until then stands in `out`, and a second run goes on from there.
    """
    try:
        tasks = _drawn(read_tasks(options.tasks), options)
    except BadTask as error:
        raise InputError(f"--tasks cannot be used: {error}.") from error
    if options.mode not in tuple(Mode):
        raise InputError(f"--mode must be one of {', '.join(Mode)}, not {options.mode!r}.")
    model = _model(options)
    with open_judge(limits=_limits(options), parallel=1, unjailed_because=options.unjailed_because) as judge:
        return _evaluated(tasks, model, judge, options, told)


def _limits(options: EvalOptions) -> JudgeLimits:
    """One check may use all of the time: HumanEval's tests are one function."""
    cpu_s = options.timeout_s
    return JudgeLimits(call_cpu_s=cpu_s, call_wall_s=3.0 * cpu_s, program_cpu_s=cpu_s + 1, program_wall_s=3.0 * cpu_s)


def _evaluated(
    tasks: Sequence[InfillTask], model: Backend, judge: Judge, options: EvalOptions, told: Callable[[int, int], None]
) -> Evaluated:
    about = {
        "generator": model.generator_id,
        "template": options.template,
        "mode": options.mode,
        "warm": options.warm,
        "candidates": options.candidates,
        "limit": options.limit,
        "seed": options.seed,
        "guarantees": sorted(judge.guarantees),
    }
    run = _digest(
        {name: about[name] for name in ("generator", "template", "mode", "warm", "candidates")}
        | {"timeout_s": options.timeout_s}
    )
    done = _rows_of(options.out, run)
    rows = asyncio.run(_evaluate(tasks, model, judge, options, run, done, told))
    if rows and all(row.outcome == JUDGE_FAILED for row in rows):
        raise ServerFailed("The judge failed on every task: its tests cannot be run, or nothing can be run here.")
    return Evaluated(tuple(rows), about)


def _drawn(tasks: list[InfillTask], options: EvalOptions) -> list[InfillTask]:
    """All tasks in the file's order, or the first `limit` of a shuffle that depends on the seed only."""
    if options.limit is None:
        return tasks
    random.Random(options.seed).shuffle(tasks)
    return tasks[: options.limit]


def _model(options: EvalOptions) -> Backend:
    """Raises InputError where an option names what can never work, and ModelMissing or ModelDamaged."""
    from coderl_generator.errors import ModelDamaged, ModelMissing
    from coderl_generator.fim_templates import fim_template
    from coderl_generator.models import EMBEDDED, find_model
    from coderl_generator.registry import backend
    from coderl_store.clock import SystemClock
    from coderl_store.home import home

    if options.backend == "openai" and not options.endpoint:
        raise InputError("--backend openai needs --endpoint, the server's base URL up to and including /v1.")
    of_backend: Mapping[str, Callable[[], dict[str, Any]]] = {
        "llamacpp": lambda: {"model_path": find_model(home(), options.model), "threads": options.threads},
        "openai": lambda: {
            "base_url": options.endpoint,
            "model": options.model,
            "api_key_env": options.api_key_env or None,
        },
        "scripted": lambda: {"clock": SystemClock(), "script": options.script},
    }
    try:
        if options.template not in ("plain", "suffix"):
            fim_template(options.template)
        return backend(options.backend, **of_backend.get(options.backend, lambda: {"model": options.model})())
    except (ModelMissing, ModelDamaged) as error:
        if options.model in ("embedded", EMBEDDED.name):
            raise
        raise InputError(f"--model cannot be used: {error}.") from error
    except GeneratorError as error:
        raise InputError(f"{error}.") from error


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _rows_of(out: Path | None, run: str) -> dict[str, Row]:
    """The rows of an earlier run, by task; those whose judge failed are judged again. Raises `InputError` for a file of
    another run."""
    if out is None or not out.exists():
        return {}
    rows: dict[str, Row] = {}
    try:
        text = out.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]  # a line that was cut while it was written is written again
        if whole != text:
            out.write_text(whole, encoding="utf-8")
        for line in whole.splitlines():
            row = Row(**json.loads(line))
            rows[row.task_id] = row
    except (OSError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise InputError(f"--out {out} holds something else than rows of an evaluation: {error}.") from error
    if any(row.run != run for row in rows.values()):
        raise InputError(f"--out {out} holds rows of another model or other options: name another file.")
    return {name: row for name, row in rows.items() if row.outcome != JUDGE_FAILED}


async def _evaluate(
    tasks: Sequence[InfillTask],
    model: Backend,
    judge: Judge,
    options: EvalOptions,
    run: str,
    done: Mapping[str, Row],
    told: Callable[[int, int], None],
) -> list[Row]:
    budget = Budget(
        max_tokens=_MAX_TOKENS,
        mode=Mode(options.mode),
        timeout_s=_GENERATION_S,
        template=options.template,
        candidates=options.candidates,
        several_s=_GENERATION_S,
    )
    rows: list[Row] = []
    try:
        for task in tasks:
            row = done.get(task.id)
            if row is None:
                row = replace(await _row(task, model, judge, budget, options.warm), run=run)
                _append(options.out, row)
            rows.append(row)
            told(len(rows), len(tasks))
    finally:
        await model.aclose()
    return rows


async def _row(task: InfillTask, model: Backend, judge: Judge, budget: Budget, warm: bool) -> Row:
    if task.tests and await _verdict(judge, task, "") == Outcome.PASSED:
        return _about(task, Row(task.id, "", TRIVIAL))
    if warm:
        await _read_above(task, model, budget)
    made = await complete_several(model, task.place, budget, time.monotonic)
    if made.failure is not None:
        raise made.failure
    done = replace(made.best, tokens_used=made.tokens_used)
    outcome = await _verdict(judge, task, done.text) if task.tests else UNTESTED
    return _finished(task, outcome, done)


def _finished(task: InfillTask, outcome: str, done: Completion) -> Row:
    row = Row(
        task_id=task.id,
        run="",
        outcome=outcome,
        completion=done.text,
        exact=task.is_exactly(done.text),
        latency_ms=round(done.latency_ms, 3),
        first_token_ms=None if done.first_token_ms is None else round(done.first_token_ms, 3),
        tokens=done.tokens_used,
        reason=done.reason.value,
    )
    return _about(task, row)


def _about(task: InfillTask, row: Row) -> Row:
    answer_chars = None if task.answer is None else len(task.answer)
    return replace(row, group=task.group, tier=task.tier, answer_chars=answer_chars)


async def _verdict(judge: Judge, task: InfillTask, text: str) -> str:
    judged = await asyncio.to_thread(judge.judge, _judged_as(task), text)
    if isinstance(judged, Ungraded):
        return JUDGE_FAILED
    if judged.passed:
        return Outcome.PASSED.value
    late = any(test.outcome is Outcome.TIMED_OUT for test in judged.visible)
    return (Outcome.TIMED_OUT if late else Outcome.FAILED).value


def _judged_as(task: InfillTask) -> Task:
    return Task(
        id=task.id,
        kind=TaskKind.INFILL,
        prompt=task.prefix,
        suffix=task.suffix,
        visible_tests=(task.tests,),
        entry_point=task.entry_point,
        reference=task.answer,
    )


async def _read_above(task: InfillTask, model: Backend, budget: Budget) -> None:
    """Have the model read the text up to the line before the place."""
    above = task.prefix.rstrip()
    place = replace(task.place, prefix=above[: above.rfind("\n") + 1])
    if place.prefix.strip():
        await complete(model, place, replace(budget, max_tokens=1), time.monotonic)


def _append(out: Path | None, row: Row) -> None:
    if out is None:
        return
    try:
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error}.") from error


def with_progress(options: EvalOptions) -> Evaluated:
    """`evaluate`, with a bar on standard error."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("tasks", total=None)
        return evaluate(options, lambda done, of: progress.update(bar, completed=done, total=of))
