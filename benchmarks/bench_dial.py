"""What the dial does: the share shown at every eagerness, on real decisions through `policy.decide` with the shipped gate.

The decisions are those of the CUPS telemetry (all were shown by Copilot); p1 and p2 are the shipped gate's, which was fitted on
them, so kept shares are flattered and shares shown are not. Costs are the shipped gate's at a few typing speeds, because τ
depends on them. Baselines in the same table: eagerness 0, and the rules that always and never show. Promised: what is shown at
one eagerness is shown at every higher one too, and a step of 0.25 anywhere changes the share shown by at least `LEAST_STEP`
where neither everything nor nothing is shown.

The folder of the telemetry is `cups` in the folder that CODERL_SHARED_DATA names (else ../shared/data). With a file name after
`--picture` it also draws the curve.

Run: python benchmarks/bench_dial.py --picture out/dial.png
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from coderl_gate import cups, dataset
from coderl_gate.artifact import GateArtifact, default_artifact
from coderl_gate.costs import costs_of, expected_costs
from coderl_gate.dataset import Dataset
from coderl_gate.figures import score
from coderl_gate.policy import Policy, Request, Rule, decide
from coderl_store.records import Action, Origin

GRID = tuple(step / 4 for step in range(-4, 5))
SPEEDS = (3.0, 5.0, 8.0)
"""Typing, characters per second."""
LEAST_STEP = 0.01
Shown = frozenset[int]
"""Numbers of the rows that are shown."""


def shown_at(artifact: GateArtifact, data: Dataset, chars_per_s: float, policy: Policy) -> Shown:
    """The rows that the policy shows, for programmers of one typing speed."""
    parameters = replace(artifact.costs, typing_chars_per_s=chars_per_s)
    expected = expected_costs(parameters)
    rows = set()
    for row, (p1, p2) in enumerate(zip(*(column.tolist() for column in score(artifact, data)), strict=True)):
        costs = costs_of(int(data.chars[row]), int(data.lines[row]), parameters)
        verdict = decide(Request(p1=p1, expected=expected, p2=p2, costs=costs), policy)
        if verdict.action is Action.SHOW:
            rows.add(row)
    return frozenset(rows)


def curve(artifact: GateArtifact, data: Dataset, chars_per_s: float) -> list[dict[str, float | None]]:
    """Share shown and kept at each eagerness of the grid. Raises AssertionError where the promise does not hold."""
    made: list[dict[str, float | None]] = []
    before: Shown | None = None
    for eagerness in GRID:
        shown = shown_at(artifact, data, chars_per_s, Policy(artifact.h_bits, eagerness))
        if before is not None:
            assert before <= shown, f"At eagerness {eagerness:+.2f} something is hidden that was shown at a lower one."
            bounds = len(before) / len(data) > 0.02 and len(shown) / len(data) < 0.98
            assert not bounds or len(shown) - len(before) >= LEAST_STEP * len(data), (
                f"{eagerness:+.2f} changes nothing visible."
            )
        before = shown
        kept = [float(data.kept[row]) for row in shown]
        made.append({"eagerness": eagerness, "shown": len(shown) / len(data), "kept": sum(kept) / len(kept) if kept else None})
    return made


def telemetry() -> Dataset | None:
    """The CUPS decisions; None where their folder is not there."""
    folder = Path(os.environ.get("CODERL_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data") / "cups"
    if not (folder / "events.jsonl").is_file():
        return None
    return dataset.build(cups.read(folder).requests, dataset.Selection(frozenset({Origin.IMPORTED})))


def run(quick: bool = False) -> dict[str, Any]:
    """Measure; quick: one typing speed."""
    data = telemetry()
    if data is None:
        return {"skipped": "CODERL_SHARED_DATA does not name a folder with the CUPS telemetry"}
    artifact = default_artifact()
    figures: dict[str, Any] = {"decisions": len(data), "gate": artifact.id, "kept_share_of_all": float(data.kept.mean())}
    for rule in (Rule.ALWAYS_SHOW, Rule.NEVER_SHOW):
        shown = shown_at(artifact, data, SPEEDS[1], Policy(artifact.h_bits, rule=rule))
        figures[f"shown_share_{rule.value}"] = len(shown) / len(data)
    for speed in (SPEEDS[1],) if quick else SPEEDS:
        made = curve(artifact, data, speed)
        figures[f"at_{speed:g}_chars_per_s"] = {
            f"{point['eagerness']:+.2f}": {"shown_share": point["shown"], "kept_share": point["kept"]} for point in made
        }
    return figures


def draw(figures: dict[str, Any], picture: Path) -> None:
    """The share shown over the dial, one line per typing speed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.8), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for speed, colour, mark in zip(SPEEDS, ("#0072b2", "#222222", "#d55e00"), ("o", "s", "^"), strict=True):
        points = figures.get(f"at_{speed:g}_chars_per_s")
        if points is not None:
            shares = [point["shown_share"] for point in points.values()]
            axes.plot(GRID, shares, color=colour, marker=mark, markersize=4, label=f"{speed:g} characters/s")
    axes.set(xlabel="eagerness", ylabel="share shown", ylim=(0, 1), title="What the dial does (CUPS, shipped gate)")
    axes.grid(color="#eeeeee")
    axes.legend(loc="upper left", frameon=False)
    FigureCanvasAgg(figure)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The share shown at every eagerness.")
    parser.add_argument("--picture", type=Path, help="where to draw the curve")
    options = parser.parse_args()
    measured = run()
    print(json.dumps(measured, indent=2))
    if options.picture is not None and "skipped" not in measured:
        draw(measured, options.picture)
