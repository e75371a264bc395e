"""What `coderl eval --env repair` found out, as tables and as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .evaluated import share_text

if TYPE_CHECKING:
    from coderl_gate.offpolicy import Interval
    from coderl_trainer.repair.attacks import AgentAttackReport
    from coderl_trainer.repair.figures import RepairCompared, RepairFigures, RepairRow


@dataclass(frozen=True, slots=True)
class RepairEvaluated:
    """One agent's rows."""

    name: str
    rows: tuple[RepairRow, ...]
    seed: int = 0
    no_repair: int = 0
    """Tasks that make no repair."""
    out: Path | None = None

    @property
    def figures(self) -> RepairFigures:
        from coderl_trainer.repair.figures import figures

        return figures(self.rows, seed=self.seed)

    def to_json(self) -> dict[str, Any]:
        """The figures; what is not known is None."""
        out = None if self.out is None else str(self.out)
        return {"name": self.name, **self.figures.to_json(), "no_repair": self.no_repair, "seed": self.seed, "out": out}

    def render(self, console: Any) -> None:
        """A table, and in sentences what it does not say."""
        console.print(_table({self.name: self.figures}))
        _say_more(console, self.figures)
        if self.no_repair:
            console.print(f"• {self.no_repair} tasks make no repair and are left out.", highlight=False)


@dataclass(frozen=True, slots=True)
class RepairComparison:
    """Two agents."""

    a: RepairEvaluated
    b: RepairEvaluated
    compared: RepairCompared

    @classmethod
    def of(cls, a: RepairEvaluated, b: RepairEvaluated, *, seed: int) -> RepairComparison:
        """Raises `FigureError` where they have no task in common."""
        from coderl_trainer.repair.figures import compare

        return cls(a, b, compare(a.rows, b.rows, seed=seed))

    def to_json(self) -> dict[str, Any]:
        """Both sides, and the differences b − a; what is not known is None."""
        return {**self.compared.to_json(), "a": self.a.to_json(), "b": self.b.to_json()}

    def render(self, console: Any) -> None:
        """Both sides in one table, then the difference."""
        from coderl_trainer.comparison import verdict

        console.print(_table({f"A: {self.a.name}": self.a.figures, f"B: {self.b.name}": self.b.figures}))
        found = self.compared
        success = found.success
        gained = success.difference
        console.print(
            f"• On {success.n} common tasks B − A is {100 * gained.estimate:+.1f} points "
            f"[{100 * gained.low:+.1f}, {100 * gained.high:+.1f}]; only A solves {success.only_a}, only B {success.only_b}; "
            f"McNemar's p {success.mcnemar_p:.3f}, Cohen's h {success.cohens_h:+.2f}.",
            highlight=False,
            soft_wrap=True,
        )
        d = " not known" if found.partial_d is None else f" {found.partial_d:+.2f}"
        times = "" if found.time_d is None else f"; time to a solution {found.time_d:+.2f} ({found.both_solved} both solved)"
        console.print(f"• Cohen's d: partial success{d}{times}.", highlight=False, soft_wrap=True)
        console.print(f"• {verdict(success)}", highlight=False)


def render_attacks(report: AgentAttackReport, console: Any) -> None:
    """Every attack with what the report names it by, then those that won something."""
    from rich.table import Table

    table = Table(title="Attacks by agents", title_justify="left")
    for heading in ("attack", "reward", "named", "intact"):
        table.add_column(heading, justify="right" if heading == "reward" else "left")
    for one in report.attacks:
        named = ", ".join(str(kind) for kind in one.findings)
        table.add_row(one.name, f"{one.reward:.2f}", named, "yes" if one.intact else "no")
    console.print(table)
    for one in report.attacks:
        if one.beaten:
            console.print(f"• {one.name}: {one.note or 'it was rewarded'}.", highlight=False)
    console.print(f"{len(report.attacks)} attacks, {report.beaten} of them won something.", highlight=False)


def _table(sides: Mapping[str, RepairFigures]) -> Any:
    from rich.table import Table

    table = Table(title_justify="left")
    table.add_column("")
    for name in sides:
        table.add_column(name, justify="right")
    rows: dict[str, Callable[[RepairFigures], str]] = {
        "episodes (tasks)": lambda one: f"{one.n} ({one.tasks})",
        "success": lambda one: _interval(one.success, share_text),
        "success, problems drawn": lambda one: _interval(one.success_bootstrap, share_text),
        "partial success": lambda one: _interval(one.partial, share_text),
        "time to solution, s": lambda one: _interval(one.time_to_solution_s, _number),
        "files read": lambda one: _interval(one.files_read, _number),
        "commands run": lambda one: _interval(one.commands_run, _number),
        "answers of the model": lambda one: _interval(one.turns, _number),
    }
    for name, told in rows.items():
        table.add_row(name, *(told(one) for one in sides.values()))
    return table


def _say_more(console: Any, found: RepairFigures) -> None:
    if found.visible_only:
        console.print(f"• {found.visible_only} episodes pass the visible tests only: fitted to what they saw.", highlight=False)
    for name, count in sorted(found.findings.items()):
        console.print(f"• {name}: {count} episodes.", highlight=False)
    if found.ungraded:
        reason, count = max(found.reasons.items(), key=lambda item: item[1])
        console.print(
            f"• {found.ungraded} episodes are ungraded and count neither way; {count} of them: {reason}.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _interval(value: Interval, text: Callable[[float], str]) -> str:
    if math.isnan(value.estimate):
        return "–"
    return text(value.estimate) if math.isnan(value.low) else f"{text(value.estimate)} [{text(value.low)}, {text(value.high)}]"


def _number(value: float) -> str:
    return f"{value:.1f}"
