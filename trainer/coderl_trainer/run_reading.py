"""Reading runs: one in full for a report, many in short for a list. Nothing is written.

A run without a manifest is either *running* (its writer holds the lock) or *killed*; it is read up to its last complete step.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .errors import RunError
from .run_files import CONFIG, ENVIRONMENT, GIT, MANIFEST, METRICS_FILE, RESUMED, SAMPLES, lines, read_json
from .runs import is_written

RUNNING: Final = "running"
KILLED: Final = "killed"
DAMAGED: Final = "damaged"
SMOOTH: Final = 10
"""Steps whose mean a list shows: single steps are noisy."""
_SUMMARISED: Final = ("reward", "solve/visible", "solve/hidden")


@dataclass(frozen=True, slots=True)
class Run:
    """What a folder holds, samples aside."""

    path: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    git: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]
    """Of metrics.jsonl, in order of their steps."""
    manifest: Mapping[str, Any] | None
    status: str
    """finished, failed, running or killed."""
    resumed: tuple[Mapping[str, Any], ...] = ()

    @property
    def steps(self) -> int:
        """Complete steps of training; a row of step 0 holds what was measured before it."""
        return sum(1 for row in self.rows if row["step"] > 0)

    def column(self, name: str) -> tuple[list[int], list[float]]:
        """Steps that have the metric, and its values."""
        known = [(row["step"], float(row[name])) for row in self.rows if isinstance(row.get(name), int | float)]
        return [step for step, _ in known], [value for _, value in known]

    def held_out(self) -> list[tuple[int, float, int]]:
        """(step, share solved, tasks judged) of each look at the held-out tasks: those of the rows, then the result of a
        finished run at the step of its best weights."""
        counts = dict(zip(*self.column("heldout/n"), strict=True))
        found = [(step, share, int(counts.get(step, 0))) for step, share in zip(*self.column("heldout/solve"), strict=True)]
        manifest = self.manifest or {}
        result = (manifest.get("results") or {}).get("heldout") or {}
        if found and isinstance(result.get("after"), int | float):
            best = manifest.get("best") or {}
            found.append((int(best.get("step", self.steps)), float(result["after"]), int(result.get("n", 0))))
        return found


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in one line of a list; None = not known."""

    path: Path
    status: str
    steps: int = 0
    started: str | None = None
    time_s: float | None = None
    reward: float | None = None
    """Means of the last `SMOOTH` steps that have the figure."""
    solve_visible: float | None = None
    solve_hidden: float | None = None
    best: Mapping[str, Any] | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "run": self.path.name,
            "path": str(self.path),
            "status": self.status,
            "steps": self.steps,
            "started": self.started,
            "time_s": self.time_s,
            "reward": self.reward,
            "solve": {"visible": self.solve_visible, "hidden": self.solve_hidden},
            "best": None if self.best is None else dict(self.best),
            "reason": self.reason,
        }


def is_run(path: Path) -> bool:
    """Whether a folder holds a run."""
    return (path / CONFIG).is_file()


def read_run(path: Path) -> Run:
    """A run in full. Raises `RunError` for a folder that holds none, and for damaged files, naming file and line."""
    if not is_run(path):
        raise RunError(f"{path} holds no run: there is no {CONFIG}.")
    manifest = read_json(path / MANIFEST) if (path / MANIFEST).exists() else None
    status = str(manifest.get("status")) if manifest is not None else RUNNING if is_written(path) else KILLED
    return Run(
        path=path,
        config=read_json(path / CONFIG),
        environment=read_json(path / ENVIRONMENT) if (path / ENVIRONMENT).exists() else {},
        git=read_json(path / GIT) if (path / GIT).exists() else {"absent": f"there is no {GIT}"},
        rows=tuple(row for row, _ in lines(path / METRICS_FILE)),
        manifest=manifest,
        status=status,
        resumed=tuple(row for row, _ in lines(path / RESUMED, ordered=False)),
    )


def list_runs(folder: Path) -> list[Summary]:
    """The runs in a folder, oldest first; the one run that the folder is. Damaged ones are listed as such, with the reason.

    Raises `RunError` where there is no such folder.
    """
    if is_run(folder):
        return [_summary(folder)]
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_dir() and is_run(path))
    except OSError as error:
        raise RunError(f"{folder} cannot be read: {error.strerror or error}.") from error
    return [_summary(path) for path in paths]


def _summary(path: Path) -> Summary:
    try:
        run = read_run(path)
    except RunError as error:
        return Summary(path, DAMAGED, reason=str(error))
    last = run.rows[-SMOOTH:]
    means = {name: _mean([row[name] for row in last if isinstance(row.get(name), int | float)]) for name in _SUMMARISED}
    manifest = run.manifest or {}
    return Summary(
        path=path,
        status=run.status,
        steps=run.steps,
        started=run.environment.get("started"),
        time_s=manifest.get("time_s", run.rows[-1].get("time_s") if run.rows else None),
        reward=means["reward"],
        solve_visible=means["solve/visible"],
        solve_hidden=means["solve/hidden"],
        best=manifest.get("best"),
        reason=str(manifest.get("reason") or ""),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def changed_files(run: Run) -> list[str]:
    """Files that are not as the manifest says, by name; empty for a run without a manifest. Reads every file in full."""
    changed = []
    for entry in (run.manifest or {}).get("files", ()):
        path = run.path / entry["path"]
        try:
            with path.open("rb") as file:
                same = hashlib.file_digest(file, "sha256").hexdigest() == entry["sha256"]
        except OSError:
            same = False
        if not same:
            changed.append(str(entry["path"]))
    return changed


def chosen_samples(path: Path, each: int = 2) -> list[dict[str, Any]]:
    """Rows of samples.jsonl worth reading: of the first and of the last step that has any, the `each` best and worst by reward,
    and one for every reason to skip anywhere in the run (its last). No row twice. Raises `RunError`."""
    first: list[dict[str, Any]] = []
    last: deque[dict[str, Any]] = deque()
    skipped: dict[str, dict[str, Any]] = {}
    for row, _ in lines(path / SAMPLES):
        if not first or row["step"] == first[0]["step"]:
            first.append(row)
        if last and row["step"] != last[0]["step"]:
            last.clear()
        last.append(row)
        if row.get("skipped"):
            skipped[str(row["skipped"])] = row
    chosen: list[dict[str, Any]] = []
    for row in (*_extremes(first, each), *_extremes(last, each), *(skipped[reason] for reason in sorted(skipped))):
        if row not in chosen:
            chosen.append(row)
    return chosen


def _extremes(rows: Iterable[dict[str, Any]], each: int) -> list[dict[str, Any]]:
    ranked = sorted((row for row in rows if row.get("reward") is not None), key=lambda row: -float(row["reward"]))
    return ranked if len(ranked) <= 2 * each else ranked[:each] + ranked[-each:]


def template_of(source: Path) -> str:
    """The prompt template of the run that `source` is or lies in; empty where it is in none. Raises `RunError` where the run's
    settings cannot be read."""
    for folder in (source.resolve(), *source.resolve().parents[:3]):
        if (folder / METRICS_FILE).is_file():
            return str(read_json(folder / CONFIG).get("template", ""))
    return ""
