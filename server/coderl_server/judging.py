"""`coderl replay --from-cups`: a given gate on other programmers, nothing fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coderl_gate import cups
from coderl_gate.artifact import default_artifact
from coderl_gate.dataset import Selection, build
from coderl_gate.errors import DataError
from coderl_gate.figures import judge
from coderl_store.records import Origin

from .errors import InputError
from .gates import given_artifact


@dataclass(frozen=True, slots=True)
class Judged:
    """The figures of `coderl_gate.figures.judge`."""

    figures: Mapping[str, Any]
    problems: tuple[str, ...]
    """Bad rows of the telemetry, which were left out, and what else has to be known of the figures."""

    def to_json(self) -> dict[str, Any]:
        return {**self.figures, "warnings": list(self.problems)}

    def render(self, console: Any) -> None:
        from rich.table import Table

        figures = self.figures
        table = Table(title=f"{figures['artifact_id']} on {figures['users']} other programmers", title_justify="left")
        for heading in ("", "AUC", "log loss", "Brier", "ECE", "ECE by chance"):
            table.add_column(heading, justify="right" if heading else "left")
        for stage, name in (("stage1", "before generation"), ("stage2", "after generation")):
            values = [figures[stage][key] for key in ("auc", "log_loss", "brier", "ece", "ece_by_chance")]
            table.add_row(name, *("not known" if value is None else f"{value:.3f}" for value in values))
        console.print(table)
        net = figures["net_seconds_per_suggestion"]
        if net["gate"] is not None:
            console.print(
                f"{figures['decisions']} decisions. Seconds per suggestion by the public yardstick: always show "
                f"{net['show_all']:+.2f}, this gate {net['gate']:+.2f}, a perfect gate {net['oracle']:+.2f}.",
                highlight=False,
            )
        for problem in self.problems:
            console.print(f"• {problem}", highlight=False)


def judge_on_cups(folder: Path, gate: Path | None) -> Judged:
    """Judge the gate in the folder `gate` (None: the shipped one) on the telemetry in `folder`. Raises InputError."""
    artifact = default_artifact() if gate is None else given_artifact(gate)
    try:
        log = cups.read(folder)
        dataset = build(log.requests, Selection(frozenset({Origin.IMPORTED})))
        figures = judge(artifact, dataset)
    except DataError as error:
        raise InputError(str(error)) from error
    said = [f"events.jsonl line {problem.line}: {problem.sentence}" for problem in log.problems]
    if figures["in_sample"]:
        said.append("The gate was fitted on these very decisions, so the figures flatter it: judge it on other programmers.")
    return Judged(figures, tuple(said))
