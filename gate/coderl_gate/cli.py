"""`gate-calibrate`: the log in, a calibrated gate and a report out.

Exit codes: 0 done, 1 the thing itself failed (a new gate that is worse than the active one is refused), 2 the input was wrong.
Heavy libraries are imported inside the command, so that `--help` is quick.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coderl_store.errors import SettingsError, StoreError

from .errors import ArtifactError, DataError, GateError, PromotionRefused
from .fitness import GENERATORS
from .progress import lines

if TYPE_CHECKING:
    from coderl_store.records import Origin

    from .calibrate import Comparison, Fit
    from .dataset import Dataset, Selection

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Origins = Annotated[
    list[str] | None,
    typer.Option("--origin", help="Whose sessions: editor (the default), simulated or imported (may be repeated)."),
]
FromExport = Annotated[
    Path | None, typer.Option("--from-export", help="Read this export (coderl export-log) instead of the database.")
]
EngineName = Annotated[
    str, typer.Option("--engine", help="local, or dask: the final trees by LightGBM's Dask trainer, over an export.")
]
Scheduler = Annotated[str | None, typer.Option(help="Address of a Dask scheduler; default: processes on this machine.")]
Workers = Annotated[int, typer.Option(help="Processes on this machine, for --engine dask.", min=1)]


def main() -> None:
    """The entry point: what the user can mend becomes one sentence on standard error."""
    try:
        app()
    except (DataError, SettingsError) as error:
        _leave(error, 2)
    except (GateError, StoreError) as error:
        _leave(error, 1)
    except SystemExit as leaving:
        if leaving.code == 130:  # how typer leaves after Ctrl-C, without a word
            sys.stderr.write("gate-calibrate: interrupted.\n")
        raise


def _leave(error: Exception, code: int) -> None:
    sys.stderr.write(f"gate-calibrate: {error}\n")
    sys.exit(code)


@dataclass(frozen=True, slots=True)
class _Source:
    """A data set and what is to be said about it."""

    dataset: Dataset
    provenance: Mapping[str, Any]
    warnings: tuple[str, ...]
    from_log: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """Which part of a log is wanted."""

    origins: frozenset[Origin]
    explicit_only: bool
    since: datetime | None
    until: datetime | None

    def selection(self) -> Selection:
        """As the data set wants it."""
        from coderl_store.records import Evidence

        from . import dataset

        return dataset.Selection(self.origins, dataset.EXPLICIT if self.explicit_only else frozenset(Evidence))

    def to_json(self) -> dict[str, Any]:
        """What provenance says of it."""
        return {"origins": sorted(self.origins), "explicit_only": self.explicit_only}


@dataclass(frozen=True, slots=True)
class _Aims:
    """What the user asks of the new gate."""

    budget_s: float
    alpha: float
    beta: float
    delta: float
    told: bool
    """How far it is goes to standard error for a program to read."""


@app.command()
def calibrate(
    from_cups: Annotated[
        Path | None, typer.Option("--from-cups", help="Fit on the CUPS telemetry in this folder instead of the log.")
    ] = None,
    database: Annotated[
        str | None, typer.Option(help="SQLAlchemy URL of the log; default: the one in the data folder.")
    ] = None,
    include_simulated: Annotated[bool, typer.Option("--include-simulated", help="Learn from simulated sessions too.")] = False,
    origin: Origins = None,
    from_export: FromExport = None,
    engine: EngineName = "local",
    scheduler: Scheduler = None,
    workers: Workers = 2,
    explicit_only: Annotated[bool, typer.Option("--explicit-only", help="Leave out outcomes that were only inferred.")] = False,
    since: Annotated[datetime | None, typer.Option(help="Only requests from this time on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only requests before this time (UTC).")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report; default: gate/reports in the data folder.")] = None,
    budget_s: Annotated[float, typer.Option(help="Expected seconds per request that not generating may cost.", min=0)] = 0.02,
    alpha: Annotated[float, typer.Option(help="Certificate: at most this share of the withheld would have been kept.")] = 0.05,
    beta: Annotated[float, typer.Option(help="Certificate: at most this share of the kept characters is lost.")] = 0.1,
    delta: Annotated[float, typer.Option(help="Chance that a certificate's promise does not hold.")] = 0.05,
    promote: Annotated[bool, typer.Option("--promote", help="Make the new gate the active one, unless it is worse.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the gate before the active one, and leave.")] = False,
    write_default: Annotated[
        bool, typer.Option("--write-default", help="For CodeRL's developers: replace the shipped gate.")
    ] = False,
    progress: Annotated[bool, typer.Option("--progress", help="Tell each step as a line of JSON on standard error.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Fit a gate on logged sessions, judge it on users it has not seen, write it with a report."""
    if rollback:
        _roll_back(as_json)
        return
    if write_default and from_cups is None:
        raise DataError("--write-default needs --from-cups DIR: the shipped gate is fitted on public data only.")
    if from_cups is not None and (from_export is not None or engine != "local"):
        raise DataError("--from-cups goes without --from-export and --engine: the telemetry is small.")
    aims = _Aims(budget_s, alpha, beta, delta, progress)
    part = _Part(_origins(origin, include_simulated), explicit_only, _utc(since), _utc(until))
    if from_cups is not None:
        fit = _fit(_cups(from_cups), aims)
    elif from_export is not None or engine != "local":
        fit = _fit_export(from_export, part, engine, (scheduler, workers), aims)
    else:
        fit = _fit(_log(database, part), aims)
    _publish(fit, out, promote, write_default, as_json)


def _publish(fit: Fit, out: Path | None, promote: bool, write_default: bool, as_json: bool) -> None:
    """Write the artifact and the report, promote where that is asked for and allowed, and say what was found."""
    from coderl_store.home import home

    from . import artifact, report

    folder = out or home() / "gate" / "reports" / fit.artifact.id
    saved = folder / "artifact"
    artifact.save(fit.artifact, saved, replace_existing=True)
    comparison, refusal = _compare(fit)
    if write_default:
        artifact.save(fit.artifact, Path(__file__).parent / "default", replace_existing=True)
    promoted = False
    if promote and refusal is None:
        from .gate import promote as make_active

        make_active(home(), saved)
        promoted = True
    report.write(fit, folder, comparison, promoted)
    _tell(fit, folder, comparison, promoted, as_json)
    if promote and refusal is not None:
        raise refusal


def _roll_back(as_json: bool) -> None:
    from coderl_store.home import home

    from .gate import rollback

    active = rollback(home())
    typer.echo(json.dumps({"active": active.id}) if as_json else f"The active gate is {active.id} now.")


def _cups(folder: Path) -> _Source:
    from coderl_store.records import Origin

    from . import cups, dataset

    log = cups.read(folder)
    for problem in log.problems:
        sys.stderr.write(f"gate-calibrate: events.jsonl line {problem.line} skipped: {problem.sentence}\n")
    built = dataset.build(log.requests, dataset.Selection(frozenset({Origin.IMPORTED})))
    provenance = {**cups.PROVENANCE, "events": log.events, "bad_rows": len(log.problems), "file_sha256": log.data_hash}
    warnings = (f"{len(log.problems)} bad rows of events.jsonl were skipped.",) if log.problems else ()
    return _Source(built, provenance, warnings, from_log=False)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=moment.tzinfo or UTC)


def _origins(names: list[str] | None, include_simulated: bool) -> frozenset[Origin]:
    """The origins of these names, the editor's sessions where none is named."""
    from coderl_store.records import Origin

    try:
        named = {Origin(name) for name in names or (Origin.EDITOR.value,)}
    except ValueError as error:
        raise DataError(f"--origin must be one of {', '.join(Origin)}, not {', '.join(names or ())}.") from error
    return frozenset(named | ({Origin.SIMULATED} if include_simulated else set()))


def _log(database: str | None, part: _Part) -> _Source:
    from coderl_store.home import StoreSettings
    from coderl_store.records import Origin, Session
    from coderl_store.repository import Repository

    from . import bulk_read

    settings, origins = StoreSettings.from_environment(database), part.origins
    repository = Repository(settings.database_url, create=database is None)
    try:
        try:
            pages = repository.pages(origins=origins, since=part.since, until=part.until)
            built = bulk_read.collect_log(repository, pages, part.selection())
            generators = repository.generators(origins=origins, until=part.until)
        except DataError as error:
            hints = {Origin.SIMULATED: "--include-simulated learns", Origin.IMPORTED: "--origin imported learns"}
            for kind, cure in hints.items():
                if kind not in origins and repository.count(Session, (kind,)):
                    raise DataError(f"{error} The log holds {kind} sessions: {cure} from them.") from error
            raise
    finally:
        repository.close()
    provenance = {
        "source": "log",
        "log": _fingerprint(settings.database_url),
        GENERATORS: sorted(generators - {""}),
        **part.to_json(),
    }
    return _Source(built, provenance, _about(origins), from_log=True)


def _fit_export(folder: Path | None, part: _Part, engine: str, cluster: tuple[str | None, int], aims: _Aims) -> Fit:
    """Fit on an export, on this machine or with a Dask cluster (the scheduler's address, or processes here)."""
    from . import dataset, partitions

    if engine not in ("local", "dask"):
        raise DataError(f"--engine must be local or dask, not {engine}.")
    if folder is None:
        raise DataError("--engine dask needs --from-export DIR: make one with coderl export-log.")
    if part.since or part.until:
        raise DataError("--since and --until take a part of the database; an export has its own (coderl export-log).")
    export, selection = partitions.open_export(folder), part.selection()
    provenance = {"source": "export", "log": _fingerprint(str(folder.resolve())), **part.to_json()}
    if engine == "local":
        built = dataset.collect(partitions.read(export.paths), selection)
        return _fit(_Source(built, provenance, _about(part.origins), from_log=True), aims)
    from . import dask_engine

    with dask_engine.cluster(*cluster) as client:
        drawn = dask_engine.draw(client, export, selection)
        fit = _fit(_Source(drawn, provenance, _about(part.origins), from_log=True), aims)
        made, agreements = dask_engine.refit(client, export, selection, fit.artifact, drawn)
    alone = () if agreements else ("Both stages chose a linear model, so the cluster had no trees to fit.",)
    return replace(fit, artifact=made, warnings=(*fit.warnings, *alone))


def _about(origins: frozenset[Origin]) -> tuple[str, ...]:
    """What has to be said of sessions that are not the editor's."""
    from coderl_store.records import Origin

    said = {
        Origin.SIMULATED: "Simulated sessions are included: the figures are about a simulated programmer.",
        Origin.IMPORTED: "Imported sessions are included: the figures are about other people with another generator.",
    }
    return tuple(sentence for origin, sentence in said.items() if origin in origins)


def _fingerprint(url: str) -> str:
    """Tells logs apart without telling where they lie."""
    from hashlib import sha256

    return sha256(url.encode()).hexdigest()[:16]


def _fit(source: _Source, aims: _Aims) -> Fit:
    from . import calibrate as job
    from .figures import Levels
    from .fitting import steps

    made = datetime.now(UTC).replace(microsecond=0) if source.from_log else None
    with _progress(steps(source.dataset), aims.told) as step:
        return job.calibrate(
            source.dataset,
            source.provenance,
            created_at=made,
            budget_s=aims.budget_s,
            levels=Levels(aims.alpha, aims.beta, aims.delta),
            step=step,
            notes=source.warnings,
            personal=source.from_log,  # the programmers of a public study will not use this installation
        )


@contextmanager
def _progress(total: int, told: bool) -> Iterator[Callable[[], None]]:
    """Lines on standard error where they are asked for, else a bar where that is a terminal."""
    if told:
        yield lines(total)
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Cross-validating both stages", total=total)
        yield lambda: bar.advance(task)


def _compare(fit: Fit) -> tuple[Comparison | None, PromotionRefused | ArtifactError | None]:
    """The comparison with the active gate (None where there is none to compare with), and why not to promote, if anything."""
    from coderl_store.home import home

    from . import calibrate as job
    from .gate import active_artifact

    try:
        active = active_artifact(home())
    except ArtifactError as error:
        return None, ArtifactError(f"Not promoted, because the active gate cannot be compared with: {error}")
    comparison = job.compare(fit, active)
    try:
        job.require_not_worse(comparison)
    except PromotionRefused as refusal:
        return comparison, refusal
    return comparison, None


def _tell(fit: Fit, folder: Path, comparison: Comparison | None, promoted: bool, as_json: bool) -> None:
    from . import report
    from .calibrate import summary

    figures = summary(fit)
    if as_json:
        compared = report.comparison_json(comparison)
        whole = {**figures, "artifact": str(folder / "artifact"), "report": str(folder / "report.html")}
        typer.echo(json.dumps({**whole, "comparison": compared, "promoted": promoted}, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", "before generation", "after generation", title="The new gate on held-out users")
    for name in ("auc", "log_loss", "brier", "ece"):
        values = [figures[stage][name] for stage in ("stage1", "stage2")]
        table.add_row(name.replace("_", " "), *("not known" if value is None else f"{value:.3f}" for value in values))
    table.add_row("model", figures["model"]["stage1"], figures["model"]["stage2"])
    console = Console()
    console.print(table)
    net = figures["product_seconds_per_suggestion"]
    console.print(
        f"{figures['decisions']} decisions of {figures['users']} users. Seconds saved per suggestion: always show "
        f"{net['show_all']:+.2f}, this gate {net['gate']:+.2f}, a perfect gate {net['oracle']:+.2f}."
    )
    promised = [certificate["sentence"] for certificate in figures["certificates"].values()]
    for sentence in (*promised, *figures["warnings"], *figures["not_estimated"]):
        console.print(f"• {sentence}", highlight=False)
    if comparison is not None:
        console.print(_compared(comparison), highlight=False)
    console.print(f"Gate and report: {folder}" + (" (now active)" if promoted else ""), highlight=False, soft_wrap=True)


def _compared(comparison: Comparison) -> str:
    (new_loss, old_loss), (new_s, old_s) = comparison.log_loss, comparison.seconds
    which = (
        "that neither was fitted on (held out)" if comparison.held_out else "that both may have been fitted on (not held out)"
    )
    return (
        f"Against the active gate, on {comparison.rows} suggestions {which}: log loss {new_loss:.4f} (active {old_loss:.4f}), "
        f"seconds saved per suggestion {new_s:+.3f} (active {old_s:+.3f}): {comparison.verdict}."
    )
