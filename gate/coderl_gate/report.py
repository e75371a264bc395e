"""The report of a calibration: `metrics.json` for machines, `report.html` for people.

The page is one file without scripts or links: pictures are embedded, and it reads well on paper and in dark rooms alike (it is
always black on white).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import plots, report_tables
from .calibrate import Comparison, Fit, summary
from .errors import GateError
from .page import document, items, picture, table


def write(fit: Fit, folder: Path, comparison: Comparison | None, promoted: bool) -> None:
    """Write both files into `folder`, which is made. Raises `GateError` where it cannot be written."""
    figures = {**summary(fit), "comparison": comparison_json(comparison), "promoted": promoted}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / "report.html").write_text(page(fit, comparison, promoted), encoding="utf-8")
    except OSError as error:
        raise GateError(f"The report cannot be written to {folder} ({error.strerror or error}): give another --out.") from error


def comparison_json(comparison: Comparison | None) -> dict[str, Any] | None:
    """The comparison with the active artifact, as plain data."""
    if comparison is None:
        return None
    return {
        "active": comparison.active_id,
        "rows": comparison.rows,
        "held_out": comparison.held_out,
        "log_loss": {"new": comparison.log_loss[0], "active": comparison.log_loss[1]},
        "seconds": {"new": comparison.seconds[0], "active": comparison.seconds[1]},
        "verdict": comparison.verdict,
    }


def page(fit: Fit, comparison: Comparison | None, promoted: bool) -> str:
    """The whole report as one HTML page."""
    dataset, ahead, costs = fit.dataset, fit.outlook, fit.artifact.costs
    figures = summary(fit)
    who = "1 programmer" if figures["users"] == 1 else f"{figures['users']} programmers"
    sections = [
        "<h1>Gate calibration</h1>",
        f'<p class="lead">{fit.rows} judged suggestions of {who}, {figures["kept"]} kept. Showing everything saves '
        f"{ahead.show_all:+.2f} s per suggestion; this gate saves {ahead.gate:+.2f} s, showing {ahead.shown:.0%} of them; "
        f"the best possible gate would save {ahead.oracle:+.2f} s.</p>",
        picture(
            plots.seconds(
                {"never show": 0.0, "always show": ahead.show_all, "this gate": ahead.gate, "perfect gate": ahead.oracle},
                f"At {ahead.chars_per_s:.1f} characters per second",
            ),
            "Seconds saved per suggestion under four policies",
        ),
        items("What to know before trusting this", fit.warnings, "warnings"),
        items("What could not be estimated", fit.costs.not_estimated),
        items("Limits", fit.artifact.provenance["limits"]),
        "<h2>How well it predicts</h2>",
        "<p>Every figure is for programmers whom the model had not seen. Intervals are 95 % over programmers.</p>"
        if not dataset.solo
        else "<p>Every figure is for blocks of time that the model had not seen. Intervals are 95 % over blocks.</p>",
        _stage_table(figures),
        *_stage_pictures(fit),
        items("What is promised", report_tables.certificate_rows(figures["certificates"])),
        _yardstick(figures),
        "<h2>How it decides</h2>",
        _decision_table(fit),
        _cost_table(fit),
        "<h3>Settled before generation, by either rule, within a budget</h3>",
        table(
            ["budget per request", "entropy: skipped + drafted", "really lost", "value of information", "really lost"],
            report_tables.escalation_rows(fit.rules),
        ),
        _comparison(comparison, promoted),
        "<h2>What it looks at</h2>",
        *_features(fit),
        "<h2>Who was in the data</h2>",
        "<p>By hashed key, those with the most decisions first. The tendency multiplies the odds of being kept.</p>",
        table(
            ["programmer", "decisions", "kept", "expected", "tendency", "reads 40 characters in"],
            report_tables.programmer_rows(fit),
        ),
        "<h2>Where it comes from</h2>",
        table(["", ""], [[key, str(value)] for key, value in _origin(fit, costs.typing_chars_per_s).items()]),
    ]
    return document(f"Gate calibration {fit.artifact.id}", sections)


def _stage_table(figures: Mapping[str, Any]) -> str:
    rows = []
    for key, name in (("stage1", "before generation"), ("stage2", "after generation")):
        stage = figures[key]
        interval = "" if stage["auc_low"] is None else f" [{stage['auc_low']:.2f}, {stage['auc_high']:.2f}]"
        error = "" if stage["log_loss_error"] is None else f" ± {stage['log_loss_error']:.3f}"
        rows.append(
            [
                name,
                f"{figures['model'][key]}, {figures['model']['calibration'][key]}",
                f"{_number(stage['auc'], 3)}{interval}",
                f"{stage['log_loss']:.3f}{error}",
                f"{stage['brier']:.3f}",
                f"{stage['ece']:.3f}",
                "; ".join(f"{model} {trial['log_loss']:.3f}" for model, trial in stage["candidates"].items()),
            ]
        )
    return table(["stage", "model, calibration", "AUC", "log loss", "Brier", "ECE", "candidates (log loss)"], rows)


def _stage_pictures(fit: Fit) -> list[str]:
    kept = fit.dataset.kept
    pictures = []
    for name, p in (("Before generation", fit.personal.p1), ("After generation", fit.personal.p2)):
        pictures.append(picture(plots.reliability(p, kept, name), f"{name}: reliability diagram"))
        pictures.append(picture(plots.histogram(p, kept, name), f"{name}: histogram of the predictions"))
    return pictures


def _yardstick(figures: Mapping[str, Any]) -> str:
    net, skipped = figures["net_seconds_per_suggestion"], figures["generations_skipped"]
    if net["gate"] is None:
        return ""
    return (
        "<p>By the public yardstick (kept · 0.9 · characters/5 − decision time, at most 10 s), seconds per suggestion: "
        f"always show {net['show_all']:+.2f}, this gate {net['gate']:+.2f}, a perfect gate {net['oracle']:+.2f}. Skipping "
        f"{skipped['share']:.0%} of the generations costs {skipped['seconds_cost']:+.3f} s and "
        f"{skipped['auc_cost']:+.4f} of AUC.</p>"
    )


def _features(fit: Fit) -> list[str]:
    tables = []
    for name, stage in (("Before generation", fit.stage1), ("After generation", fit.stage2)):
        tables.append(f"<h3>{name}</h3>")
        head = ["feature", "splits of the trees", "weight of one standard deviation"]
        tables.append(table(head, report_tables.feature_rows(stage.model)))
    return tables


def _decision_table(fit: Fit) -> str:
    entropy, ahead = fit.entropy, fit.outlook
    return table(
        ["on the judged suggestions", ""],
        [
            ["entropy limit h", f"{entropy.limit:.3f} bits"],
            ["settled without generating", f"{entropy.skipped:.1%}"],
            ["settled by a short draft", f"{entropy.drafted:.1%}"],
            ["expected cost of settling early", f"{entropy.cost_s:.4f} s per request"],
            ["shown", f"{ahead.shown:.1%}"],
            ["kept, of all", f"{float(fit.dataset.kept.mean()):.1%}"],
            ["kept, of what the gate shows", "not known" if math.isnan(ahead.kept_of_shown) else f"{ahead.kept_of_shown:.1%}"],
            ["of all kept characters, shown", "not known" if math.isnan(ahead.kept_chars) else f"{ahead.kept_chars:.1%}"],
            ["seconds gained over always showing", f"{ahead.gain:+.3f} ± {ahead.gain_error:.3f} per suggestion"],
        ],
    )


def _cost_table(fit: Fit) -> str:
    rows = []
    for name, value in asdict(fit.costs.parameters).items():
        own = [item.values[name] for item in fit.costs.personal.values() if name in item.values]
        interval = fit.costs.intervals.get(name)
        rows.append(
            [
                name.replace("_", " "),
                f"{value:.4g}",
                "" if interval is None else f"{interval[0]:.3g} to {interval[1]:.3g}",
                f"{min(own):.3g} to {max(own):.3g}" if own else "",
            ]
        )
    return table(["cost parameter", "value", "95 % interval", "programmers' own, lowest to highest"], rows)


def _comparison(comparison: Comparison | None, promoted: bool) -> str:
    if comparison is None:
        return ""
    which = (
        "suggestions that neither gate was fitted on" if comparison.held_out else "suggestions that both gates were fitted on"
    )
    rows = [
        ["log loss", *(f"{value:.4f}" for value in comparison.log_loss)],
        ["seconds saved per suggestion", *(f"{value:+.3f}" for value in comparison.seconds)],
    ]
    became = "It was promoted." if promoted else "It was not promoted."
    return (
        f"<h2>Against the active gate</h2><p>On {comparison.rows} {which}, the new gate is {comparison.verdict}. {became}</p>"
        + table(["", "new", f"active ({comparison.active_id})"], rows)
    )


def _origin(fit: Fit, chars_per_s: float) -> dict[str, object]:
    facts = {key: value for key, value in fit.artifact.provenance.items() if isinstance(value, str | int | float)}
    return {"artifact": fit.artifact.id, "data hash": fit.artifact.data_hash, "made": fit.artifact.created_at, **facts}


def _number(value: float | None, digits: int) -> str:
    return "not known" if value is None or value != value else f"{value:.{digits}f}"
