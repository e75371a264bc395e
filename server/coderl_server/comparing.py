"""`coderl eval --compare A B`: two models on the same tasks, or what two evaluations of them wrote.

A and B are models, as `--model` takes them (with `--backend scripted`: scripts), or files of rows that `coderl eval --out`
wrote, in any mixture. Only tasks that both have a verdict for count; the rest is counted by reason. Differences are B − A.

Covered: the same tasks, prompt template and judge on both sides where models are asked. Not covered: two files that were made
with different options (they cannot be told apart; the rows say so only by a digest), and more than one sample per task.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from coderl_generator.errors import BadTask
from coderl_generator.tasks import InfillTask, read_tasks

from .errors import InputError
from .evaluating import TRIVIAL, UNTESTED, EvalOptions, Evaluated, Row, evaluate, with_progress
from .simulate.report import percentile

if TYPE_CHECKING:
    from coderl_trainer.comparison import Compared, Comparison, Pair

SOLVED: Final = "passed"
VERDICTS: Final = frozenset({SOLVED, "failed", "timed_out"})
"""Outcomes that say something of the model."""
LEFT_OUT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "trivial": "left out: an empty line solves them",
        "untested": "left out: they have no tests",
        "not_judged": "left out: the judge failed on them",
        "only_one": "left out: only one side has them",
        "not_asked_for": "left out: they are not in --tasks",
    }
)
"""Why a task does not count, in words."""
_FIRST_LINE: Final = 1_000_000
"""Bytes of a file that are read to tell what it is."""
_NO_PROBLEMS: Final = (
    "The base problems are not known, so every task counts as its own and the interval may be too short: give --tasks."
)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two."""

    name: str
    rows: Mapping[str, Row]
    """By task."""
    generator: str | None = None
    """None = not known: the rows were read from a file."""


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """Both sides, and what they have in common."""

    a: Side
    b: Side
    common: frozenset[str]
    """Tasks that both have a verdict for."""
    comparison: Comparison
    left_out: Mapping[str, int]
    """Tasks that do not count, by reason."""
    seed: int
    warnings: tuple[str, ...] = ()
    picture: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The figures. Shares lie in [0, 1], differences are b − a; what is not known is None."""
        overall = self.comparison.overall
        return {
            "a": {**overall.a.to_json(), **self._figures(self.a)},
            "b": {**overall.b.to_json(), **self._figures(self.b)},
            **{name: value for name, value in overall.to_json().items() if name not in ("a", "b")},
            "by_tier": {name: part.to_json() for name, part in self.comparison.by_tier.items()},
            "by_length": {name: part.to_json() for name, part in self.comparison.by_length.items()},
            "left_out": dict(self.left_out),
            "seed": self.seed,
            "warnings": list(self.warnings),
            "picture": None if self.picture is None else str(self.picture),
        }

    def _figures(self, side: Side) -> dict[str, Any]:
        """What else is known of one side, on the tasks that both have."""
        rows = [row for name, row in side.rows.items() if name in self.common]
        times = sorted(row.latency_ms for row in rows if row.latency_ms is not None)
        return {
            "name": side.name,
            "generator": side.generator,
            "exact_match": sum(row.exact for row in rows) / len(rows),
            "latency_ms": {"p50": percentile(times, 0.5), "p95": percentile(times, 0.95)},
        }

    def render(self, console: Any) -> None:
        """One table, and in sentences what it says and what it does not."""
        from rich import box
        from rich.table import Table

        from coderl_trainer.comparison import verdict

        overall = self.comparison.overall
        title = "Solved, and the difference B − A with its 95 % interval"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("tasks")
        for heading in ("n", "A", "B", "difference", "only A : B", "p", "h"):
            table.add_column(heading, justify="right")
        parts = (("all", overall), *self.comparison.by_tier.items(), *self.comparison.by_length.items())
        for index, (name, part) in enumerate(parts):
            table.add_row(name, *_cells(part), style="bold" if index == 0 else "", end_section=index == 0)
        for letter, side in (("A", self.a), ("B", self.b)):
            console.print(f"{letter}: {side.name}", highlight=False, markup=False, soft_wrap=True)
        console.print(table)
        console.print(f"• {verdict(overall)}", highlight=False)
        console.print(
            f"• {overall.n} tasks of {overall.problems} base problems; the interval draws problems, p (McNemar, exact) takes "
            "tasks for independent, h is Cohen's.",
            highlight=False,
        )
        for name, count in self.left_out.items():
            if count:
                console.print(f"• {count} tasks {LEFT_OUT[name]}.", highlight=False)
        for warning in self.warnings:
            console.print(f"• {warning}", highlight=False, markup=False)
        if self.picture is not None:
            console.print(f"Picture: {self.picture}", highlight=False, markup=False, soft_wrap=True)


def evaluate_or_compare(
    options: EvalOptions, compare: tuple[str, str] | None, picture: Path | None
) -> Evaluated | ComparisonReport:
    """What `coderl eval` was asked for, with bars on standard error. No tasks are `Path()`.

    Raises `InputError` where tasks are missing, and what `evaluate` and `compare_models` raise.
    """
    given = options.tasks != Path()
    if compare is None:
        if not given:
            raise InputError("--tasks is missing: name a file of tasks.")
        if picture is not None:
            raise InputError("--picture is drawn of a comparison: give --compare A B too.")
        return with_progress(options)
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bars = {letter: progress.add_task(letter, total=None, visible=False) for letter in "ab"}

        def told(letter: str, done: int, of: int) -> None:
            progress.update(bars[letter], completed=done, total=of, visible=True)

        return compare_models(*compare, options if given else None, seed=options.seed, picture=picture, told=told)


def compare_models(
    a: str,
    b: str,
    options: EvalOptions | None,
    *,
    seed: int = 0,
    picture: Path | None = None,
    told: Callable[[str, int, int], None] = lambda _side, _done, _of: None,
) -> ComparisonReport:
    """Ask or read both sides, compare, and draw.

    `options` say how models are asked, and on which tasks; None = both sides are files that speak for themselves. `seed` is
    that of the bootstrap; `told` hears for `a` and `b` how many tasks are done, of how many. Raises `InputError` for sides,
    tasks or a picture that cannot be used, and what `evaluate` raises.
    """
    from coderl_trainer.comparison import compare
    from coderl_trainer.errors import FigureError

    tasks = _tasks(options)
    left, right = (_ask_or_read(name, letter, options, told) for letter, name in (("a", a), ("b", b)))
    pairs = _pairs(left.rows, right.rows, tasks)
    try:
        comparison = compare(pairs, seed=seed)
    except FigureError as error:
        raise InputError(f"--compare cannot be done: {error}") from error
    if picture is not None:
        _draw(comparison, left.name, right.name, picture)
    unknown = not tasks and any(row.group is None for side in (left, right) for row in side.rows.values())
    return ComparisonReport(
        a=left,
        b=right,
        common=frozenset(pair.task_id for pair in pairs),
        comparison=comparison,
        left_out=_left_out(left.rows, right.rows, tasks),
        seed=seed,
        warnings=(_NO_PROBLEMS,) if unknown else (),
        picture=picture,
    )


def read_rows(path: Path) -> dict[str, Row]:
    """The rows that `coderl eval --out` wrote, by task, without the half line of a run that was cut. Raises `InputError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    lines = text[: text.rfind("\n") + 1].split("\n")
    rows = [_row(line, f"{path} line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    return {row.task_id: row for row in rows}


def _row(line: str, where: str) -> Row:
    known = {field.name for field in fields(Row)}
    try:
        found = json.loads(line)
        return Row(**{name: value for name, value in found.items() if name in known})
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{where} is no row of an evaluation: {error}.") from error


def is_rows(path: Path) -> bool:
    """Whether a file holds rows of an evaluation, by its first line."""
    try:
        with path.open("rb") as file:
            first = json.loads(file.readline(_FIRST_LINE))
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and {"task_id", "run", "outcome"} <= first.keys()


def _tasks(options: EvalOptions | None) -> Mapping[str, InfillTask]:
    if options is None:
        return {}
    try:
        return {task.id: task for task in read_tasks(options.tasks)}
    except BadTask as error:
        raise InputError(f"--tasks cannot be used: {error}.") from error


def _ask_or_read(name: str, letter: str, options: EvalOptions | None, told: Callable[[str, int, int], None]) -> Side:
    if is_rows(Path(name)):
        return Side(name, read_rows(Path(name)))
    if Path(name).suffix == ".jsonl":
        what = "is no file of rows" if Path(name).exists() else "is not there"
        raise InputError(f"--compare {name} {what}: `coderl eval --out FILE` writes rows.")
    if options is None:
        raise InputError(f"--compare needs --tasks to ask the model {name}; without it, both sides must be files of rows.")
    asked = replace(options, out=None if options.out is None else options.out.with_suffix(f".{letter}{options.out.suffix}"))
    asked = replace(asked, script=Path(name)) if options.backend == "scripted" else replace(asked, model=name)
    evaluated = evaluate(asked, lambda done, of: told(letter, done, of))
    return Side(name, {row.task_id: row for row in evaluated.rows}, str(evaluated.about["generator"]))


def _pairs(a: Mapping[str, Row], b: Mapping[str, Row], tasks: Mapping[str, InfillTask]) -> list[Pair]:
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
            chars = None if task.answer is None else len(task.answer)
            pairs.append(Pair(name, *solved, task.group, task.tier, chars))
        else:
            chars = other.answer_chars if row.answer_chars is None else row.answer_chars
            pairs.append(Pair(name, *solved, row.group or other.group or "", row.tier or other.tier, chars))
    return pairs


def _left_out(a: Mapping[str, Row], b: Mapping[str, Row], tasks: Mapping[str, InfillTask]) -> dict[str, int]:
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


def _draw(comparison: Comparison, name_a: str, name_b: str, path: Path) -> None:
    from coderl_trainer.comparison_plot import comparison_picture

    try:
        path.write_bytes(comparison_picture(comparison, name_a, name_b))
    except OSError as error:
        raise InputError(f"--picture {path} cannot be written: {error.strerror or error}.") from error


def _cells(part: Compared) -> Sequence[str]:
    known = part.difference.to_json()
    low, high = known["low"], known["high"]
    interval = "" if low is None or high is None else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    return (
        str(part.n),
        f"{part.a.estimate:.1%}",
        f"{part.b.estimate:.1%}",
        f"{100 * part.difference.estimate:+.1f}{interval}",
        f"{part.only_a} : {part.only_b}",
        f"{part.mcnemar_p:.2g}",
        f"{part.cohens_h:+.2f}",
    )
