"""`gate-calibrate`: the log in, a calibrated gate and a report out.

Exit codes: 0 done, 1 the thing itself failed (a new gate that is worse than the active one is refused), 2 the input was wrong.
Heavy libraries are imported inside the command, so that `--help` is quick.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coderl_store.errors import SettingsError, StoreError

from .errors import ArtifactError, DataError, GateError, PromotionRefused
from .fitness import GENERATORS

if TYPE_CHECKING:
    from coderl_store.repository import LoggedRequest

    from .calibrate import Comparison, Fit
    from .dataset import Dataset

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


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


@app.command()
def calibrate(
    from_cups: Annotated[
        Path | None, typer.Option("--from-cups", help="Fit on the CUPS telemetry in this folder instead of the log.")
    ] = None,
    database: Annotated[
        str | None, typer.Option(help="SQLAlchemy URL of the log; default: the one in the data folder.")
    ] = None,
    include_simulated: Annotated[bool, typer.Option("--include-simulated", help="Learn from simulated sessions too.")] = False,
    explicit_only: Annotated[bool, typer.Option("--explicit-only", help="Leave out outcomes that were only inferred.")] = False,
    since: Annotated[datetime | None, typer.Option(help="Only requests from this time on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only requests before this time (UTC).")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report; default: gate/reports in the data folder.")] = None,
    budget_s: Annotated[float, typer.Option(help="Expected seconds per request that not generating may cost.", min=0)] = 0.02,
    promote: Annotated[bool, typer.Option("--promote", help="Make the new gate the active one, unless it is worse.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the gate before the active one, and leave.")] = False,
    write_default: Annotated[
        bool, typer.Option("--write-default", help="For CodeRL's developers: replace the shipped gate.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Fit a gate on logged sessions, judge it on users it has not seen, write it with a report."""
    if rollback:
        _roll_back(as_json)
        return
    if write_default and from_cups is None:
        raise DataError("--write-default needs --from-cups DIR: the shipped gate is fitted on public data only.")
    source = (
        _cups(from_cups)
        if from_cups is not None
        else _log(database, include_simulated, explicit_only, _utc(since), _utc(until))
    )
    fit = _fit(source, budget_s)
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
    built = dataset.build(log.requests, dataset.Selection(frozenset({Origin.IMPORTED}), reading_s=log.reading_s))
    provenance = {**cups.PROVENANCE, "events": log.events, "bad_rows": len(log.problems), "file_sha256": log.data_hash}
    warnings = (f"{len(log.problems)} bad rows of events.jsonl were skipped.",) if log.problems else ()
    return _Source(built, provenance, warnings, from_log=False)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=moment.tzinfo or UTC)


def _noting_generators(requests: Iterable[LoggedRequest], generators: set[str]) -> Iterator[LoggedRequest]:
    """The requests as they come; the ids of the generators whose suggestions were shown are added on the way."""
    for request in requests:
        if request.suggestion is not None and request.outcome is not None:
            generators.add(request.suggestion.generator_id)
        yield request


def _log(
    database: str | None, include_simulated: bool, explicit_only: bool, since: datetime | None, until: datetime | None
) -> _Source:
    from coderl_store.home import StoreSettings
    from coderl_store.records import Evidence, Origin
    from coderl_store.repository import Repository

    from . import dataset

    settings = StoreSettings.from_environment(database)
    origins = frozenset({Origin.EDITOR, Origin.SIMULATED} if include_simulated else {Origin.EDITOR})
    selection = dataset.Selection(origins, dataset.EXPLICIT if explicit_only else frozenset(Evidence))
    repository = Repository(settings.database_url, create=database is None)
    generators: set[str] = set()
    try:
        try:
            requests = repository.requests(origins=origins, since=since, until=until)
            built = dataset.build(_noting_generators(requests, generators), selection)
        except DataError as error:
            if not include_simulated and repository.count(_session_type(), (Origin.SIMULATED,)):
                raise DataError(
                    f"{error} The log holds simulated sessions: --include-simulated learns from them too."
                ) from error
            raise
    finally:
        repository.close()
    provenance = {
        "source": "log",
        "log": _fingerprint(settings.database_url),
        "origins": sorted(origins),
        "explicit_only": explicit_only,
        GENERATORS: sorted(generators),
    }
    warnings = ("Simulated sessions are included: the figures are about a simulated programmer.",) if include_simulated else ()
    return _Source(built, provenance, warnings, from_log=True)


def _fingerprint(url: str) -> str:
    """Tells logs apart without telling where they lie."""
    from hashlib import sha256

    return sha256(url.encode()).hexdigest()[:16]


def _session_type() -> Any:
    from coderl_store.records import Session

    return Session


def _fit(source: _Source, budget_s: float) -> Fit:
    from . import calibrate as job
    from .fitting import steps

    made = datetime.now(UTC).replace(microsecond=0) if source.from_log else None
    with _progress(steps(source.dataset)) as step:
        return job.calibrate(
            source.dataset, source.provenance, created_at=made, budget_s=budget_s, step=step, notes=source.warnings
        )


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error, where that is a terminal."""
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
    net = figures["net_seconds_per_suggestion"]
    console.print(
        f"{figures['decisions']} decisions of {figures['users']} users. Seconds saved per suggestion: always show "
        f"{net['show_all']:+.2f}, this gate {net['gate']:+.2f}, a perfect gate {net['oracle']:+.2f}."
    )
    for sentence in (*figures["warnings"], *figures["not_estimated"]):
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
