"""*Training*: the runs of a folder, their curves, and samples with their rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coderl_trainer.errors import RunError
from coderl_trainer.run_reading import Run, Summary, chosen_samples, list_runs, read_run

from ..problems import Problem
from . import charts
from .charts import Series

MOST_RUNS = 50
CURVES = (
    ("Reward", (("reward", "mean of the samples"),)),
    ("Solved", (("solve/visible", "visible tests"), ("solve/hidden", "hidden tests too"), ("heldout/solve", "held-out tasks"))),
    ("Loss", (("loss", "loss"),)),
    ("Divergence from the reference, nats per token", (("kl", "kl"),)),
    ("Length of a sample, tokens", (("completions/mean_length", "mean"),)),
    ("Entropy, nats", (("entropy", "entropy"),)),
)
"""Title, then metric and what it is called, of each chart."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One run."""

    run: Run
    pictures: Sequence[tuple[str, str]]
    """Title and chart of those metrics that the run has."""
    samples: Sequence[Mapping[str, Any]]
    """Empty where the visitor may not read them, or there are none."""
    problem: str
    """Why there are no samples; empty where there are."""


def runs(folder: Path) -> tuple[list[Summary], str]:
    """The latest runs, the latest first, and why there are none."""
    if not folder.is_dir():
        return [], f"There is no folder {folder.name} where the server was started: `coderl serve --runs DIR` names another."
    try:
        found = list_runs(folder)
    except RunError as error:
        return [], str(error)
    return list(reversed(found))[:MOST_RUNS], "" if found else "The folder holds no run yet: `coderl train` makes one."


def run(folder: Path, name: str, *, with_samples: bool) -> Shown:
    """One of them. Raises `Problem`."""
    paths = {one.path.name: one.path for one in list_runs(folder)} if folder.is_dir() else {}
    if name not in paths:
        raise Problem(404, "not_found", "There is no such run.")
    try:
        found = read_run(paths[name])
    except RunError as error:
        raise Problem(409, "damaged", f"The run cannot be read: {error}") from error
    samples: list[dict[str, Any]] = []
    problem = "" if with_samples else "Samples may hold code of programmers: whoever manages this server reads them."
    if with_samples:
        try:
            samples = chosen_samples(paths[name])
        except RunError as error:
            problem = f"The samples cannot be read: {error}"
    return Shown(found, pictures(found), samples, problem)


def pictures(found: Run) -> list[tuple[str, str]]:
    """Title and chart. Pure."""
    drawn: list[tuple[str, str]] = []
    for title, metrics in CURVES:
        columns = {words: dict(zip(*found.column(metric), strict=True)) for metric, words in metrics}
        steps = sorted({step for column in columns.values() for step in column})
        if len(steps) < 2:
            continue
        series = [
            Series(words, _joined(steps, column), f"c{index}")
            for index, (words, column) in enumerate(columns.items(), 1)
            if column
        ]
        drawn.append((title, charts.lines(series, [str(step) for step in steps], f"{title}, by step")))
    return drawn


def _joined(steps: Sequence[int], column: Mapping[int, float]) -> list[float | None]:
    """The values at the steps; where a metric is measured now and then, the line goes through from one to the next."""
    known = sorted(column)
    values: list[float | None] = []
    for step in steps:
        before = [one for one in known if one <= step]
        after = [one for one in known if one >= step]
        if not before or not after:
            values.append(None)
            continue
        left, right = before[-1], after[0]
        share = 0.0 if left == right else (step - left) / (right - left)
        values.append(column[left] + share * (column[right] - column[left]))
    return values
