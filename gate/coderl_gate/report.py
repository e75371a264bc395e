"""The report of a calibration: `metrics.json` for machines, `report.html` for people.

The page is one file without scripts or links: pictures are embedded, and it reads well on paper and in dark rooms alike (it is
always black on white).
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from . import plots, report_tables
from .calibrate import Comparison, Fit, summary
from .errors import GateError

_STYLE = """
body { font: 15px/1.5 Georgia, serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #111; background: #fff; }
h1, h2 { font-family: system-ui, sans-serif; line-height: 1.2; } h2 { margin-top: 2rem; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .25rem .9rem .25rem 0; text-align: right; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 1px solid #111; }
tbody tr { border-bottom: 1px solid #e5e5e5; }
figure { display: inline-block; margin: 0 0 1rem 0; max-width: 49%; } img { max-width: 100%; }
code { font-size: .9em; overflow-wrap: anywhere; } .lead { font-size: 1.15em; } .warnings li { color: #8a3000; }
@media print { body { font-size: 11pt; margin: 0; max-width: none; } }
@media print { h2, figure, table { break-inside: avoid; break-after: auto; } }
"""


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
        _picture(
            plots.seconds(
                {"never show": 0.0, "always show": ahead.show_all, "this gate": ahead.gate, "perfect gate": ahead.oracle},
                f"At {ahead.chars_per_s:.1f} characters per second",
            ),
            "Seconds saved per suggestion under four policies",
        ),
        _list("What to know before trusting this", fit.warnings, "warnings"),
        _list("What could not be estimated", fit.costs.not_estimated),
        _list("Limits", fit.artifact.provenance["limits"]),
        "<h2>How well it predicts</h2>",
        "<p>Every figure is for programmers whom the model had not seen. Intervals are 95 % over programmers.</p>"
        if not dataset.solo
        else "<p>Every figure is for blocks of time that the model had not seen. Intervals are 95 % over blocks.</p>",
        _stage_table(figures),
        *_stage_pictures(fit),
        _list("What is promised", report_tables.certificate_rows(figures["certificates"])),
        _yardstick(figures),
        "<h2>How it decides</h2>",
        _decision_table(fit),
        _cost_table(fit),
        "<h3>Settled before generation, by either rule, within a budget</h3>",
        _table(
            ["budget per request", "entropy: skipped + drafted", "really lost", "value of information", "really lost"],
            report_tables.escalation_rows(fit.rules),
        ),
        _comparison(comparison, promoted),
        "<h2>What it looks at</h2>",
        *_features(fit),
        "<h2>Who was in the data</h2>",
        "<p>By hashed key, those with the most decisions first. The tendency multiplies the odds of being kept.</p>",
        _table(
            ["programmer", "decisions", "kept", "expected", "tendency", "reads 40 characters in"],
            report_tables.programmer_rows(fit),
        ),
        "<h2>Where it comes from</h2>",
        _table(["", ""], [[key, str(value)] for key, value in _origin(fit, costs.typing_chars_per_s).items()]),
    ]
    title = f"Gate calibration {fit.artifact.id}"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n'
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


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
    return _table(["stage", "model, calibration", "AUC", "log loss", "Brier", "ECE", "candidates (log loss)"], rows)


def _stage_pictures(fit: Fit) -> list[str]:
    kept = fit.dataset.kept
    pictures = []
    for name, p in (("Before generation", fit.personal.p1), ("After generation", fit.personal.p2)):
        pictures.append(_picture(plots.reliability(p, kept, name), f"{name}: reliability diagram"))
        pictures.append(_picture(plots.histogram(p, kept, name), f"{name}: histogram of the predictions"))
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
        tables.append(_table(head, report_tables.feature_rows(stage.model)))
    return tables


def _decision_table(fit: Fit) -> str:
    entropy, ahead = fit.entropy, fit.outlook
    return _table(
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
    return _table(["cost parameter", "value", "95 % interval", "programmers' own, lowest to highest"], rows)


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
        + _table(["", "new", f"active ({comparison.active_id})"], rows)
    )


def _origin(fit: Fit, chars_per_s: float) -> dict[str, object]:
    facts = {key: value for key, value in fit.artifact.provenance.items() if isinstance(value, str | int | float)}
    return {"artifact": fit.artifact.id, "data hash": fit.artifact.data_hash, "made": fit.artifact.created_at, **facts}


def _list(title: str, items: Sequence[str], kind: str = "") -> str:
    if not items:
        return ""
    return f'<h2>{escape(title)}</h2><ul class="{kind}">' + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _picture(png: bytes, words: str) -> str:
    return f'<figure><img alt="{escape(words)}" src="data:image/png;base64,{base64.b64encode(png).decode()}"></figure>'


def _number(value: float | None, digits: int) -> str:
    return "not known" if value is None or value != value else f"{value:.{digits}f}"
