"""What `coderl eval --compare` found out: both sides, what they have in common, and how it is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from .eval_rows import Row, latencies_ms
from .evaluated import write_picture
from .simulate.report import percentile
from .time_saving import TimeSaved

if TYPE_CHECKING:
    from coderl_trainer.comparison import Compared, Comparison
    from coderl_trainer.time_saved import SavedCompared

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
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({"estimate": None, "low": None, "high": None})
_NO_TASKS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "difference": dict(_NOTHING),
        "mcnemar_p": None,
        "cohens_h": None,
        "n": 0,
        "problems": 0,
        "only_a": 0,
        "only_b": 0,
        "pass_at_k": {},
    }
)
"""The figures over tasks where only files were typed."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two."""

    name: str
    rows: Mapping[str, Row]
    """By task."""
    generator: str | None = None
    """None = not known: the rows were read from a file, or no task was asked."""
    saved: TimeSaved | None = None
    """None = no file was typed."""


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """Both sides, and what they have in common."""

    a: Side
    b: Side
    common: frozenset[str]
    """Tasks that both have a verdict for."""
    comparison: Comparison | None
    """None = only files were typed."""
    left_out: Mapping[str, int]
    """Tasks that do not count, by reason."""
    seed: int
    saved: SavedCompared | None = None
    part: str = "all"
    warnings: tuple[str, ...] = ()
    picture: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The figures. Shares lie in [0, 1], differences are b − a; what is not known is None."""
        overall = None if self.comparison is None else self.comparison.overall
        figures = dict(_NO_TASKS) if overall is None else overall.to_json()
        parts = {} if self.comparison is None else {"by_tier": self.comparison.by_tier, "by_length": self.comparison.by_length}
        return {
            "a": {**(_NOTHING if overall is None else overall.a.to_json()), **self._figures(self.a)},
            "b": {**(_NOTHING if overall is None else overall.b.to_json()), **self._figures(self.b)},
            **{name: value for name, value in figures.items() if name not in ("a", "b")},
            **{name: {key: part.to_json() for key, part in parts.get(name, {}).items()} for name in ("by_tier", "by_length")},
            "seconds_saved": self._seconds(),
            "left_out": dict(self.left_out),
            "part": self.part,
            "seed": self.seed,
            "warnings": list(self.warnings),
            "picture": None if self.picture is None else str(self.picture),
        }

    def _figures(self, side: Side) -> dict[str, Any]:
        """What else is known of one side, on the tasks that both have."""
        rows = [row for name, row in side.rows.items() if name in self.common]
        times = latencies_ms(rows)
        return {
            "name": side.name,
            "generator": side.generator,
            "exact_match": sum(row.exact for row in rows) / len(rows) if rows else None,
            "latency_ms": {"p50": percentile(times, 0.5), "p95": percentile(times, 0.95)},
        }

    def _seconds(self) -> dict[str, Any] | None:
        """Per 1000 keystrokes, paired by file."""
        if self.saved is None or self.a.saved is None or self.b.saved is None:
            return None
        a, b = self.a.saved, self.b.saved
        lengths = {"a": a.by_length(), "b": b.by_length()}
        names = dict.fromkeys(name for found in lengths.values() for name in found)
        return {
            **self.saved.to_json(),
            "files": [{"file": file, "a": rate, "b": b.rates[file]} for file, rate in a.rates.items()],
            "by_length": {name: {letter: found.get(name) for letter, found in lengths.items()} for name in names},
            "rule": a.rule,
        }

    def render(self, console: Any) -> None:
        """A table of the tasks, one of the files, and in sentences what they say and what they do not."""
        for letter, side in (("A", self.a), ("B", self.b)):
            console.print(f"{letter}: {side.name}", highlight=False, markup=False, soft_wrap=True)
        if self.comparison is not None:
            self._render_tasks(console, self.comparison)
        self._render_files(console)
        for name, count in self.left_out.items():
            if count:
                console.print(f"• {count} tasks {LEFT_OUT[name]}.", highlight=False)
        for warning in self.warnings:
            console.print(f"• {warning}", highlight=False, markup=False)
        if self.picture is not None:
            console.print(f"Picture: {self.picture}", highlight=False, markup=False, soft_wrap=True)

    def _render_tasks(self, console: Any, comparison: Comparison) -> None:
        from rich import box
        from rich.table import Table

        from coderl_trainer.comparison import verdict

        overall = comparison.overall
        title = "Solved, and the difference B − A with its 95 % interval"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("tasks")
        for heading in ("n", "A", "B", "difference", "only A : B", "p", "h"):
            table.add_column(heading, justify="right")
        table.add_row("all", *_cells(overall), style="bold", end_section=not overall.pass_at_k)
        for k, found in overall.pass_at_k.items():
            change = _points(found.difference.to_json())
            last = k == max(overall.pass_at_k)
            table.add_row(f"pass@{k}", str(found.n), f"{found.a:.1%}", f"{found.b:.1%}", change, "", "", "", end_section=last)
        for name, part in (*comparison.by_tier.items(), *comparison.by_length.items()):
            table.add_row(name, *_cells(part))
        console.print(table)
        console.print(f"• {verdict(overall)}", highlight=False)
        first = " Solved is said of the first sample of a task, pass@k of all." if overall.pass_at_k else ""
        console.print(
            f"• {overall.n} tasks of {overall.problems} base problems; the interval draws problems, p (McNemar, exact) takes "
            f"tasks for independent, h is Cohen's.{first}",
            highlight=False,
        )

    def _render_files(self, console: Any) -> None:
        from rich import box
        from rich.table import Table

        from coderl_trainer.time_saved import verdict

        if self.saved is None or self.a.saved is None or self.b.saved is None:
            return
        title = "Seconds saved per 1000 keystrokes, typed by a simulated programmer"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("file")
        for heading in ("A", "B", "difference"):
            table.add_column(heading, justify="right")
        rates = self.b.saved.rates
        for file, rate in self.a.saved.rates.items():
            table.add_row(self.a.saved.names[file], f"{rate:+.1f}", f"{rates[file]:+.1f}", f"{rates[file] - rate:+.1f}")
        table.add_section()
        mean, change = self.saved, self.saved.difference
        reach = "" if math.isnan(change.low) else f" [{change.low:+.1f}, {change.high:+.1f}]"
        cells = (f"{mean.a.estimate:+.1f}", f"{mean.b.estimate:+.1f}", f"{change.estimate:+.1f}{reach}")
        table.add_row("mean of the files", *cells, style="bold")
        console.print(table)
        console.print(f"• {verdict(self.saved)}", highlight=False)
        if mean.cohens_d is not None and mean.cohens_d_paired is not None:
            console.print(
                f"• Cohen's d {mean.cohens_d:+.2f}, in standard deviations of the differences {mean.cohens_d_paired:+.2f}.",
                highlight=False,
            )

    def draw(self, path: Path) -> None:
        """Write the picture. Raises `InputError` where it cannot be written."""
        from coderl_trainer.comparison_plot import comparison_picture, seconds_picture

        if self.comparison is None:
            if self.saved is not None:
                write_picture(path, seconds_picture(self._rates(), self.saved, self.a.name, self.b.name))
            return
        saved = None if self.saved is None else (self._rates(), self.saved)
        write_picture(path, comparison_picture(self.comparison, self.a.name, self.b.name, saved))

    def _rates(self) -> dict[str, tuple[float, float]]:
        """File → seconds saved of a and of b."""
        if self.a.saved is None or self.b.saved is None:
            return {}
        names, rates = self.a.saved.names, self.b.saved.rates
        return {names[file]: (rate, rates[file]) for file, rate in self.a.saved.rates.items()}


def _points(known: Mapping[str, float | None]) -> str:
    """A difference of shares in percentage points, with its interval where that is known."""
    low, high = known["low"], known["high"]
    interval = "" if low is None or high is None else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"{100 * (known['estimate'] or 0.0):+.1f}{interval}"


def _cells(part: Compared) -> Sequence[str]:
    return (
        str(part.n),
        f"{part.a.estimate:.1%}",
        f"{part.b.estimate:.1%}",
        _points(part.difference.to_json()),
        f"{part.only_a} : {part.only_b}",
        f"{part.mcnemar_p:.2g}",
        f"{part.cohens_h:+.2f}",
    )
