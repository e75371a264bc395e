"""What episodes say: one agent's figures with intervals, and two compared task by task. Pure.

Success is every hidden test passing and nothing forfeited; partial success the share of the failing tests that pass now.
Intervals of means draw whole base problems (`statistics.paired_difference`'s bootstrap against zeros); success also has
Wilson's. Of a comparison: McNemar's exact p and Cohen's h of success, Cohen's d of partial success and of the time to a
solution (over tasks that both solved). Tasks whose episode is ungraded on either side do not count. Where a task has several
episodes the first decides in McNemar; means use all of them.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from coderl_gate.offpolicy import Interval
from coderl_trainer.comparison import Compared, Pair, compare_all
from coderl_trainer.errors import FigureError, TaskError
from coderl_trainer.statistics import cohens_d, cohens_d_paired, paired_difference, share
from coderl_trainer.task_formats.lines import json_lines
from coderl_trainer.verdicts import Ungraded

from .episodes import Episode

_FORM: Final = "coderl-repair-rows"


@dataclass(frozen=True, slots=True)
class RepairRow:
    """One episode as `coderl eval --env repair --out` writes it."""

    task_id: str
    problem: str
    solved: bool | None
    """None = ungraded."""
    partial: float | None
    visible: bool | None
    """Every visible test passes; None = there are none, or ungraded."""
    reward: float | None
    wall_s: float
    files_read: int
    commands_run: int
    turns: int
    tokens: int
    files_changed: int
    findings: tuple[str, ...]
    ended: str
    """How the agent's run ended; empty = it did not run."""
    returncode: int | None
    reason: str = ""
    """Why it is ungraded."""

    @classmethod
    def of(cls, episode: Episode) -> RepairRow:
        ended, grade = episode.ended, episode.grade
        return cls(
            task_id=episode.task.id,
            problem=episode.task.problem,
            solved=episode.solved,
            partial=episode.partial,
            visible=None if isinstance(grade, Ungraded) else grade.passed_visible,
            reward=episode.reward,
            wall_s=0.0 if ended is None else ended.wall_s,
            files_read=episode.activity.files_read,
            commands_run=episode.activity.commands_run,
            turns=episode.activity.turns,
            tokens=episode.activity.tokens,
            files_changed=len(episode.changed),
            findings=tuple(map(str, episode.findings)),
            ended="" if ended is None else str(ended.status),
            returncode=None if ended is None else ended.returncode,
            reason=grade.reason if isinstance(grade, Ungraded) else "",
        )


def write_rows(rows: Iterable[RepairRow], path: Path) -> None:
    """As JSON Lines. Raises `TaskError`."""
    try:
        text = "".join(json.dumps({"form": _FORM, **asdict(row)}) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TaskError(f"{path} cannot be written: {error.strerror or error}.") from error


def read_rows(path: Path) -> list[RepairRow]:
    """What `write_rows` wrote. Raises `TaskError`."""
    rows: list[RepairRow] = []
    for where, given in json_lines(path):
        if given.pop("form", None) != _FORM:
            raise TaskError(f"{where} is no row that `coderl eval --env repair --out` wrote.")
        try:
            rows.append(RepairRow(**{**given, "findings": tuple(given["findings"])}))
        except (TypeError, KeyError) as error:
            raise TaskError(f"{where} is no row of this version: {error}.") from error
    return rows


@dataclass(frozen=True, slots=True)
class RepairFigures:
    """One agent on some tasks. Counts and times are means of one episode."""

    n: int
    """Graded episodes."""
    tasks: int
    ungraded: int
    success: Interval
    """Wilson's; of episodes as if they were independent."""
    success_bootstrap: Interval
    """Draws base problems."""
    partial: Interval
    time_to_solution_s: Interval
    """Of solved episodes; NaN without any."""
    files_read: Interval
    commands_run: Interval
    turns: Interval
    tokens: Interval
    visible_only: int
    """Episodes that pass the visible tests and not the hidden ones: fitted to what they saw."""
    findings: Mapping[str, int]
    reasons: Mapping[str, int]
    """Why episodes are ungraded."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is not known is None."""
        return {
            name: value.to_json() if isinstance(value := getattr(self, name), Interval) else _plain(value)
            for name in self.__dataclass_fields__
        }


@dataclass(frozen=True, slots=True)
class RepairCompared:
    """Two agents on the tasks that both have a verdict for; differences are b − a."""

    success: Compared
    partial: Interval
    partial_d: float | None
    """Cohen's d of partial success over tasks (two samples, as Cohen's h is); None with fewer than two tasks."""
    partial_dz: float | None
    """The same paired: in standard deviations of the differences."""
    time_d: float | None
    """Cohen's d of the time to a solution, over tasks that both solved; None with fewer than two."""
    both_solved: int
    left_out: int
    """Tasks that only one side has, or that are ungraded on one."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is not known is None."""
        return {
            **self.success.to_json(),
            "partial": self.partial.to_json(),
            **{name: _plain(getattr(self, name)) for name in ("partial_d", "partial_dz", "time_d", "both_solved", "left_out")},
        }


def figures(rows: Sequence[RepairRow], *, seed: int = 0) -> RepairFigures:
    """Of one agent. Same rows and seed, same figures."""
    graded = [row for row in rows if row.solved is not None]
    solved = [row for row in graded if row.solved]
    return RepairFigures(
        n=len(graded),
        tasks=len({row.task_id for row in graded}),
        ungraded=len(rows) - len(graded),
        success=share(len(solved), len(graded)),
        success_bootstrap=_mean(graded, [float(bool(row.solved)) for row in graded], seed),
        partial=_mean(graded, [row.partial or 0.0 for row in graded], seed),
        time_to_solution_s=_mean(solved, [row.wall_s for row in solved], seed),
        files_read=_mean(graded, [row.files_read for row in graded], seed),
        commands_run=_mean(graded, [row.commands_run for row in graded], seed),
        turns=_mean(graded, [row.turns for row in graded], seed),
        tokens=_mean(graded, [row.tokens for row in graded], seed),
        visible_only=sum(bool(row.visible) and not row.solved for row in graded),
        findings=dict(Counter(name for row in graded for name in row.findings)),
        reasons=dict(Counter(row.reason for row in rows if row.solved is None)),
    )


def compare(a: Sequence[RepairRow], b: Sequence[RepairRow], *, seed: int = 0) -> RepairCompared:
    """Raises `FigureError` where no task has a verdict on both sides."""
    of_a, of_b = _by_task(a), _by_task(b)
    common = [name for name in of_a if name in of_b]
    if not common:
        raise FigureError("No task was judged for both sides: there is nothing to compare.")
    pairs = [Pair(name, bool(of_a[name][0].solved), bool(of_b[name][0].solved), of_a[name][0].problem) for name in common]
    left, right = ([_average(side[name]) for name in common] for side in (of_a, of_b))
    both = [name for name in common if of_a[name][0].solved and of_b[name][0].solved]
    times = [[side[name][0].wall_s for name in both] for side in (of_a, of_b)]
    several = len(common) > 1
    return RepairCompared(
        success=compare_all(pairs, seed=seed),
        partial=paired_difference(left, right, [pair.cluster for pair in pairs], seed=seed),
        partial_d=cohens_d(left, right) if several else None,
        partial_dz=cohens_d_paired(left, right) if several else None,
        time_d=cohens_d(*times) if len(both) > 1 else None,
        both_solved=len(both),
        left_out=len({row.task_id for row in (*a, *b)}) - len(common),
    )


def _by_task(rows: Sequence[RepairRow]) -> dict[str, list[RepairRow]]:
    found: dict[str, list[RepairRow]] = {}
    for row in rows:
        if row.solved is not None:
            found.setdefault(row.task_id, []).append(row)
    return found


def _average(rows: Sequence[RepairRow]) -> float:
    return math.fsum(row.partial or 0.0 for row in rows) / len(rows)


def _mean(rows: Sequence[RepairRow], values: Sequence[float], seed: int) -> Interval:
    if not values:
        return Interval(math.nan, math.nan, math.nan)
    return paired_difference([0.0] * len(values), values, [row.problem for row in rows], seed=seed)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return dict(value) if isinstance(value, Mapping) else value
