"""What `coderl eval` found out about one model: the rows of its tasks, the seconds it saved, and how both are told."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coderl_trainer.verdicts import Outcome

from .errors import InputError
from .eval_rows import JUDGE_FAILED, TRIVIAL, UNTESTED, Row, latencies_ms
from .simulate.report import percentile
from .time_saving import TimeSaved

if TYPE_CHECKING:
    from coderl_gate.offpolicy import Interval
    from coderl_trainer.solve_rates import Solved, SolveRates


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Rows with what they were made with."""

    rows: tuple[Row, ...]
    about: Mapping[str, Any]
    ks: tuple[int, ...] | None = None
    """Of pass@k; None = the usual ones, as far as there are samples."""
    seed: int = 0
    """Of the intervals."""
    saved: TimeSaved | None = None
    warnings: tuple[str, ...] = ()
    picture: Path | None = None

    @property
    def asked(self) -> list[Row]:
        """The rows of the tasks that count."""
        return [row for row in self.rows if row.outcome != TRIVIAL]

    def solved(self) -> Solved:
        """The figures over tasks."""
        from coderl_trainer.solve_rates import default_ks, solve_rates

        tries = [row.tries for row in self.asked]
        ks = default_ks(tries) if self.ks is None else self.ks
        return solve_rates(tries, sorted({1, *ks}), seed=self.seed)

    def to_json(self) -> dict[str, Any]:
        """The figures. Shares lie in [0, 1]; `n` tasks have a verdict; what nothing was measured of is None."""
        solved, counted = self.solved(), self._counted()
        overall = solved.overall
        times = latencies_ms(self.asked)
        visible = [row.passed_visible for row in self.asked if row.passed_visible is not None]
        return {
            "n": overall.n,
            "pass_at_1": _first(overall).to_json(),
            "pass_at_k": overall.to_json()["pass_at_k"],
            "exact_match": overall.exact,
            "passed_visible": sum(visible) / len(visible) if visible else None,
            "latency_ms": {"p50": percentile(times, 0.5), "p95": percentile(times, 0.95)},
            **counted,
            **self.about,
            "by_kind": {name: part.to_json() for name, part in solved.by_kind.items()},
            "by_tier": {name: part.to_json() for name, part in solved.by_tier.items()},
            "by_length": {name: part.to_json() for name, part in solved.by_length.items()},
            "seconds_saved": None if self.saved is None else self.saved.to_json(),
            "warnings": list(self.warnings),
            "picture": None if self.picture is None else str(self.picture),
        }

    def _counted(self) -> dict[str, int]:
        """Samples that have no say, or ran out of time, and tasks that do not count."""
        outcomes = Counter(outcome for row in self.rows for outcome in row.every)
        return {
            "judge_failed": outcomes[JUDGE_FAILED],
            "timed_out": outcomes[Outcome.TIMED_OUT],
            "left_out_as_trivial": sum(row.outcome == TRIVIAL for row in self.rows),
            "untested": sum(row.outcome == UNTESTED for row in self.rows),
        }

    def render(self, console: Any) -> None:
        """A table of the tasks, one of the files, and in sentences what they do not say."""
        if self.rows:
            self._render_tasks(console)
        if self.saved is not None:
            self.saved.render(console)
        for warning in self.warnings:
            console.print(f"• {warning}", highlight=False, markup=False)
        if self.picture is not None:
            console.print(f"Picture: {self.picture}", highlight=False, markup=False, soft_wrap=True)

    def _render_tasks(self, console: Any) -> None:
        from rich.table import Table

        about, solved = self.about, self.solved()
        further = [k for k in solved.overall.pass_at_k if k != 1]
        table = Table(title=f"{about['generator']}, {about['template']}, {about['mode']}", title_justify="left")
        table.add_column("")
        for heading in ("tasks", "solved", "95 % interval", *(f"pass@{k}" for k in further), "exact"):
            table.add_column(heading, justify="right")
        kinds = solved.by_kind if len(solved.by_kind) > 1 else {}
        groups = ({"all": solved.overall}, kinds, solved.by_tier, solved.by_length)
        for group in groups:
            for index, (name, part) in enumerate(group.items()):
                table.add_row(name, *_cells(part, further), end_section=index == len(group) - 1)
        console.print(table)
        times = latencies_ms(self.asked)
        if times:
            p50, p95 = percentile(times, 0.5), percentile(times, 0.95)
            console.print(f"• Half of the completions took at most {p50:.0f} ms, 95 % at most {p95:.0f} ms.", highlight=False)
        self._say_what_is_not_there(console)

    def _say_what_is_not_there(self, console: Any) -> None:
        about, counted = self.about, self._counted()
        what = "tasks" if about["samples"] == 1 else "samples"
        for name, sentence in (
            ("left_out_as_trivial", "tasks left out: an empty line solves them"),
            ("untested", "tasks without tests: only compared with the answer"),
            ("timed_out", f"{what} ran out of time; they count as not solved"),
            ("judge_failed", f"{what} not judged because the judge failed; they count neither way"),
        ):
            if counted[name]:
                console.print(f"• {counted[name]} {sentence}.", highlight=False)
        if about["samples"] > 1:
            console.print(
                f"• {about['samples']} samples of each task at temperature {about['temperature']:g}, top-p {about['top_p']:g}, "
                f"seed {about['seed']}; the intervals draw base problems.",
                highlight=False,
            )
        if about["limit"] is not None:
            console.print(f"• {about['limit']} tasks drawn with the seed {about['seed']}.", highlight=False)
        if "no_network" not in about["guarantees"]:
            console.print("• The programs ran without a jail, as you said they may.", highlight=False)

    def draw(self, path: Path) -> None:
        """Write the picture. Raises `InputError` where it cannot be written."""
        from coderl_trainer.evaluation_plot import evaluation_picture

        solved = self.solved() if self.rows else None
        rates = {} if self.saved is None else {self.saved.names[file]: rate for file, rate in self.saved.rates.items()}
        mean = None if self.saved is None else self.saved.mean
        write_picture(path, evaluation_picture(solved, rates, mean, str(self.about["generator"])))


def write_picture(path: Path, picture: bytes) -> None:
    """Raises `InputError` where it cannot be written."""
    try:
        path.write_bytes(picture)
    except OSError as error:
        raise InputError(f"--picture {path} cannot be written: {error.strerror or error}.") from error


def share_text(value: float | None) -> str:
    """A share for people."""
    return "not known" if value is None or math.isnan(value) else f"{value:.1%}"


def _first(rates: SolveRates) -> Interval:
    from coderl_trainer.statistics import share

    return rates.pass_at_k.get(1) or share(0, 0)


def _cells(part: SolveRates, further: list[int]) -> list[str]:
    first = _first(part)
    known = math.isfinite(first.estimate) and math.isfinite(first.low)
    return [
        str(part.n),
        share_text(first.estimate),
        f"{share_text(first.low)} to {share_text(first.high)}" if known else "not known",
        *(share_text(part.pass_at_k[k].estimate) if k in part.pass_at_k else "" for k in further),
        share_text(part.exact),
    ]
