"""A run as pictures and one page: `plots/*.png` and `report.html`, made anew from the files of the run at any time.

The page is one file: pictures are embedded, nothing is fetched, and what a model wrote is shown as text, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from coderl_gate.page import document, items, picture, table

from .errors import RunError
from .metric_names import METRICS
from .peak_memory import MEMORY
from .run_files import PLOTS, REPORT, write_whole
from .run_reading import SMOOTH, Run, changed_files, chosen_samples, read_run
from .runs import FAILED, FINISHED

_LONGEST: Final = 1500
"""Characters of a prompt or a sample that the page shows."""
_FINAL: Final = (
    "reward",
    "reward_std",
    "solve/visible",
    "solve/hidden",
    "heldout/solve",
    "kl",
    "entropy",
    "completions/mean_length",
    "completions/clipped_ratio",
    "skipped/all_pass",
    "skipped/all_fail",
    "skipped/tie",
    "ungraded",
    "grad_norm",
    "time/sample_s",
    "time/judge_s",
    "time/learn_s",
    MEMORY,
)
"""Figures of the table, in order; further ones that the run has follow."""


@dataclass(frozen=True, slots=True)
class Written:
    """What `write` made."""

    report: Path
    plots: tuple[Path, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "report": str(self.report),
            "plots": [str(path) for path in self.plots],
            "warnings": list(self.warnings),
        }


def write(path: Path) -> Written:
    """Draw the pictures of the run at `path` and write its page. Raises `RunError` for a folder that holds no readable run, and
    where the disk refuses."""
    from . import plots

    run = read_run(path)
    pictures = plots.draw_all(run)
    folder = path / PLOTS
    try:
        folder.mkdir(exist_ok=True)
        for stale in folder.glob("*.png"):
            if stale.stem in plots.PICTURES and stale.stem not in pictures:
                stale.unlink()
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror or error}.") from error
    for name, png in pictures.items():
        write_whole(folder / f"{name}.png", png)
    warnings = tuple(_warnings(run))
    words = {name: words for name, (_, words) in plots.PICTURES.items()}
    write_whole(path / REPORT, page(run, {words[name]: png for name, png in pictures.items()}, warnings))
    return Written(path / REPORT, tuple(folder / f"{name}.png" for name in pictures), warnings)


def page(run: Run, pictures: Mapping[str, bytes], warnings: Sequence[str]) -> str:
    """The whole report as one HTML page; `pictures` by what they show."""
    sections = [
        f"<h1>Training run {escape(run.path.name)}</h1>",
        f'<p class="lead">{escape(_lead(run))}</p>',
        items("What to know before trusting this", warnings, "warnings"),
        "<h2>Course</h2>",
        "<p>Pale lines are single steps, bold ones the mean over neighbouring steps. A rollout step samples, judges and learns "
        "from several groups; it may hold none, one or several gradient steps.</p>",
        *(picture(png, words) for words, png in pictures.items()),
        "<h2>Figures</h2>",
        table(["figure", "unit", f"first {SMOOTH} steps", f"last {SMOOTH} steps", "lowest", "highest"], _figure_rows(run)),
        "<h2>Samples</h2>",
        "<p>The best and the worst of the first and of the last step, and the last one of each reason to skip.</p>",
        *(_sample(row) for row in chosen_samples(run.path)),
        "<h2>Configuration</h2>",
        table(["setting", "value"], [[name, _setting(value)] for name, value in flat(run.config)]),
        "<h2>Where it was made</h2>",
        table(["", ""], [[name, _setting(value)] for name, value in (*flat(run.environment), *flat(run.git))]),
    ]
    return document(f"Training run {run.path.name}", sections)


def flat(value: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Nested settings as dotted names, sorted."""
    found: list[tuple[str, Any]] = []
    for key in sorted(value):
        name = f"{above}.{key}" if above else key
        inner = value[key]
        found += flat(inner, name) if isinstance(inner, Mapping) and inner else [(name, inner)]
    return found


def _lead(run: Run) -> str:
    manifest = run.manifest or {}
    words = {FINISHED: "It came to its end", FAILED: "It failed"}.get(run.status, f"It is {run.status}")
    time_s = manifest.get("time_s", run.rows[-1].get("time_s", 0.0) if run.rows else 0.0)
    text = f"{words} after {run.steps} steps in {_duration(float(time_s or 0.0))}."
    looks = run.held_out()
    if len(looks) > 1:
        text += f" Held out: {looks[0][1]:.1%} before, {looks[-1][1]:.1%} after."
    peak_mb = _peak_mb(run)
    if peak_mb is not None:
        text += f" Peak memory: {peak_mb / 1000:.2f} GB."
    if manifest.get("best"):
        text += f" Best: {', '.join(f'{name} {_number(value)}' for name, value in manifest['best'].items())}."
    return text


def _peak_mb(run: Run) -> float | None:
    """In MB, of the process that needed most; None = not noted."""
    _, noted = run.column(MEMORY)
    at_the_end = ((run.manifest or {}).get("results") or {}).get(MEMORY)
    known = [*noted, *([float(at_the_end)] if isinstance(at_the_end, int | float) else [])]
    return max(known, default=None)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _setting(value: Any) -> str:
    if value is None:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _warnings(run: Run) -> list[str]:
    found = []
    reason = (run.manifest or {}).get("reason")
    if run.status == FAILED:
        found.append(f"The run failed: {reason}.")
    elif run.status != FINISHED:
        found.append(f"The run is {run.status}: it has no manifest, and these are the steps that were complete.")
    if run.git.get("absent"):
        found.append(f"The commit is not known: {run.git['absent']}.")
    elif run.git.get("dirty"):
        found.append(f"The code was changed after commit {str(run.git.get('commit'))[:12]}: {_several(run.git['changed'])}.")
    if run.resumed:
        found.append(f"The run went on after an end, after step {_several([row['step'] for row in run.resumed])}.")
    diverged = {name: row["step"] for row in reversed(run.rows) for name in row.get("not_finite", ())}
    found += [f"{name} was not finite, first in step {step}." for name, step in sorted(diverged.items())]
    if changed := changed_files(run):
        found.append(f"Files are not as they were when the run ended: {_several(changed)}.")
    return found


def _several(words: Sequence[Any]) -> str:
    shown = ", ".join(str(word) for word in words[:5])
    return shown if len(words) <= 5 else f"{shown} and {len(words) - 5} more"


def _figure_rows(run: Run) -> list[list[str]]:
    known = {name for row in run.rows for name, value in row.items() if isinstance(value, int | float)} - {"step", "time_s"}
    rows = []
    for name in (*(name for name in _FINAL if name in known), *sorted(known - set(_FINAL))):
        _, values = run.column(name)
        unit = METRICS[name].unit if name in METRICS else ""
        ends = (sum(part) / len(part) for part in (values[:SMOOTH], values[-SMOOTH:]))
        rows.append([name, unit, *(_number(value) for value in (*ends, min(values), max(values)))])
    return rows


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _sample(row: Mapping[str, Any]) -> str:
    parts = ", ".join(f"{name} {_number(value)}" for name, value in (row.get("rewards") or {}).items() if value is not None)
    facts = [
        f"step {row['step']}",
        str(row.get("task_id", "")),
        "no reward" if row.get("reward") is None else f"reward {_number(row['reward'])}" + (f" ({parts})" if parts else ""),
        "" if row.get("advantage") is None else f"advantage {row['advantage']:+.2f}",
        f"skipped: {row['skipped']}" if row.get("skipped") else "",
    ]
    prompt, text = (str(row.get(name, "")) for name in ("prompt", "text"))
    before = ("… " if len(prompt) > _LONGEST else "") + prompt[-_LONGEST:]
    after = text[:_LONGEST] + (" …" if len(text) > _LONGEST else "")
    head = " · ".join(fact for fact in facts if fact)
    return f"<h4>{_shown(head)}</h4><pre>{_shown(before)}<mark>{_shown(after)}</mark></pre>"


def _shown(text: str) -> str:
    """As HTML; half characters, which a page cannot hold, become a sign of their own."""
    return escape(text.encode("utf-8", "replace").decode("utf-8"))
