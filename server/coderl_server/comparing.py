"""`coderl eval --compare A B`: two models on the same tasks and files, or what two evaluations of them wrote.

A and B are models, as `--model` takes them (with `--backend scripted`: scripts), or files of rows that `coderl eval --out`
wrote, in any mixture. Only tasks that both have a verdict for count; the rest is counted by reason. Differences are B − A.

Solved or not is that of the first sample of a task; pass@k is of all of them. Covered: the same tasks and judge
on both sides where models are asked, and the same keys and pauses where files are typed; each model is asked by the prompt
template that fits it, or all by one that is named. Not covered: two files of rows that were made with different options (they
cannot be told apart; the rows say so only by a digest).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .compared import LEFT_OUT, ComparisonReport, Side
from .errors import InputError
from .eval_rows import SOLVED, TRIVIAL, UNTESTED, VERDICTS, Row, is_rows, read_rows
from .evaluated import Evaluated
from .evaluating import EvalOptions, evaluate, tier_of
from .time_saving import TypingOptions, time_saved

if TYPE_CHECKING:
    from coderl_trainer.comparison import Comparison, Pair
    from coderl_trainer.time_saved import SavedCompared
    from coderl_trainer.types import Task

_NO_PROBLEMS = (
    "The base problems are not known, so every task counts as its own and the interval may be too short: give --tasks."
)

Told = Callable[[str, int, int], None]
"""Hears for `a` and `b` how many tasks are done, of how many."""


def evaluate_or_compare(
    options: EvalOptions, compare: tuple[str, str] | None, picture: Path | None
) -> Evaluated | ComparisonReport:
    """What `coderl eval` was asked for, with bars on standard error.

    Raises `InputError` where there is nothing to do, and what `evaluate` and `compare_models` raise.
    """
    from rich.console import Console
    from rich.progress import Progress

    if compare is None and not options.choice.given and not options.typing.files:
        raise InputError("--tasks is missing: name a file of tasks, or --files to type.")
    console = Console(stderr=True)
    letters = ("tasks",) if compare is None else ("a", "b")
    with Progress(console=console, transient=True) as progress:
        bars = {letter: progress.add_task(letter, total=None, visible=False) for letter in letters}

        def told(letter: str, done: int, of: int) -> None:
            progress.update(bars[letter], completed=done, total=of, visible=True)

        if compare is not None:
            return compare_models(*compare, options, picture=picture, told=told)
        found = evaluate(options, lambda done, of: told("tasks", done, of))
    if picture is None:
        return found
    found.draw(picture)
    return replace(found, picture=picture)


def compare_models(
    a: str,
    b: str,
    options: EvalOptions,
    *,
    picture: Path | None = None,
    told: Told = lambda _side, _done, _of: None,
) -> ComparisonReport:
    """Ask or read both sides, compare, and draw.

    `options` say how models are asked, on which tasks and files, and the seed of the bootstrap; without tasks both sides are
    files of rows, or only the typing is compared. Raises `InputError` for sides, tasks or a picture that cannot be used, and
    what `evaluate` raises.
    """
    options.check()
    rows = [is_rows(Path(name)) for name in (a, b)]
    if options.typing.files and any(rows):
        raise InputError("--files are typed with models: a file of rows cannot be asked. Leave --files out, or name models.")
    tasks = {task.id: task for task in options.choice.tasks()} if options.choice.given else {}
    only_files = not tasks and bool(options.typing.files)
    if only_files:
        left, right = (Side(name, {}) for name in (a, b))
    else:
        left, right = (_ask_or_read(name, letter, options, told) for letter, name in (("a", a), ("b", b)))
    pairs = _pairs(left.rows, right.rows, tasks)
    comparison = None if only_files else _compared(pairs, options)
    left, right = (_typed(side, options) for side in (left, right))
    unknown = not tasks and any(row.group is None for side in (left, right) for row in side.rows.values())
    report = ComparisonReport(
        a=left,
        b=right,
        common=frozenset(pair.task_id for pair in pairs),
        comparison=comparison,
        saved=_compare_saved(left, right, options.seed),
        left_out=_left_out(left.rows, right.rows, tasks),
        seed=options.seed,
        part=options.choice.chosen_part,
        warnings=(*options.choice.warnings, *((_NO_PROBLEMS,) if unknown else ())),
        picture=picture,
    )
    if picture is not None:
        report.draw(picture)
    return report


def _ask_or_read(name: str, letter: str, options: EvalOptions, told: Told) -> Side:
    if is_rows(Path(name)):
        return Side(name, read_rows(Path(name)))
    if Path(name).suffix == ".jsonl":
        what = "is no file of rows" if Path(name).exists() else "is not there"
        raise InputError(f"--compare {name} {what}: `coderl eval --out FILE` writes rows.")
    if not options.choice.given:
        raise InputError(f"--compare needs --tasks to ask the model {name}; without it, both sides must be files of rows.")
    asked = replace(options, out=None if options.out is None else options.out.with_suffix(f".{letter}{options.out.suffix}"))
    asked = replace(_with_model(asked, name), typing=TypingOptions())
    evaluated = evaluate(asked, lambda done, of: told(letter, done, of))
    return Side(name, {row.task_id: row for row in evaluated.rows}, str(evaluated.about["generator"]))


def _with_model(options: EvalOptions, name: str) -> EvalOptions:
    if options.backend == "scripted":
        return replace(options, script=Path(name))
    return replace(options, model=name)


def _typed(side: Side, options: EvalOptions) -> Side:
    """The same with what it saves on the files, where there are any."""
    if not options.typing.files:
        return side
    asked = _with_model(options, side.name)
    saved = time_saved(asked.typing, backend=asked.backend, model=asked.model, script=asked.script, seed=asked.seed)
    return replace(side, saved=saved)


def _compared(pairs: list[Pair], options: EvalOptions) -> Comparison:
    from coderl_trainer.comparison import compare
    from coderl_trainer.errors import FigureError
    from coderl_trainer.solve_rates import KS

    counts = [count[0] for pair in pairs for count in (pair.counts_a, pair.counts_b) if count is not None and count[0]]
    least = min(counts, default=1)
    ks = options.ks if options.ks is not None else tuple(k for k in KS if k <= least) if least > 1 else ()
    try:
        comparison = compare(pairs, seed=options.seed, ks=ks)
    except FigureError as error:
        raise InputError(f"--compare cannot be done: {error}") from error
    missing = sorted(set(ks) - comparison.overall.pass_at_k.keys())
    if missing:
        raise InputError(f"--k {missing[0]} needs that many samples of a task on both sides; there are fewer.")
    return comparison


def _compare_saved(a: Side, b: Side, seed: int) -> SavedCompared | None:
    from coderl_trainer.time_saved import SavedPair, compare_saved

    if a.saved is None or b.saved is None:
        return None
    rates = b.saved.rates
    return compare_saved([SavedPair(file, rate, rates[file]) for file, rate in a.saved.rates.items()], seed=seed)


def _pairs(a: Mapping[str, Row], b: Mapping[str, Row], tasks: Mapping[str, Task]) -> list[Pair]:
    """The tasks that both sides have a verdict for, in the order of `a`; what is known of them by `tasks`, else by the rows."""
    from coderl_trainer.comparison import Pair

    pairs = []
    for name, row in a.items():
        other = b.get(name)
        if other is None or not {row.outcome, other.outcome} <= VERDICTS or (tasks and name not in tasks):
            continue
        solved = (row.outcome == SOLVED, other.outcome == SOLVED)
        if tasks:
            task = tasks[name]
            problem, tier, chars = task.group_id, tier_of(task), None if task.reference is None else len(task.reference)
        else:
            chars = other.answer_chars if row.answer_chars is None else row.answer_chars
            problem, tier = row.group or other.group or "", row.tier or other.tier
        pairs.append(Pair(name, *solved, problem, tier, chars, row.counts, other.counts))
    return pairs


def _left_out(a: Mapping[str, Row], b: Mapping[str, Row], tasks: Mapping[str, Task]) -> dict[str, int]:
    """How many tasks are no pair, by reason; a task has one reason, the first that holds."""
    reasons = dict.fromkeys(LEFT_OUT, 0)
    for name in a.keys() | b.keys():
        outcomes = {rows[name].outcome for rows in (a, b) if name in rows}
        if tasks and name not in tasks:
            reasons["not_asked_for"] += 1
        elif TRIVIAL in outcomes:
            reasons["trivial"] += 1
        elif UNTESTED in outcomes:
            reasons["untested"] += 1
        elif not outcomes <= VERDICTS:
            reasons["not_judged"] += 1
        elif name not in a or name not in b:
            reasons["only_one"] += 1
    return reasons
