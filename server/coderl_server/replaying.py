"""`coderl replay`: the log and another policy in, what would have changed out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coderl_gate.errors import DataError
from coderl_gate.gate import active_artifact
from coderl_gate.policy import Policy, Rule
from coderl_gate.progress import lines
from coderl_gate.replay import ReplayReport, replay
from coderl_store.home import StoreSettings
from coderl_store.records import Decision, Origin
from coderl_store.repository import LoggedRequest, Repository

from .errors import InputError
from .gates import given_artifact


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What to replay, under what."""

    gate: Path | None = None
    rule: str = Rule.ENTROPY.value
    eagerness: float = 0.0
    since: str | None = None
    until: str | None = None
    include_simulated: bool = False
    origins: tuple[str, ...] = ()
    """Whose sessions; none means the editor's."""
    database: str | None = None
    seed: int = 0
    shadow_labels: bool = False
    progress: bool = False
    """Say on standard error how many thousands of requests were read (`coderl_gate.progress`)."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay with the policy it asked about."""

    report: ReplayReport
    gate_id: str
    policy: Policy

    def to_json(self) -> dict[str, Any]:
        policy = {"rule": self.policy.rule.value, "eagerness": self.policy.eagerness, "h_bits": self.policy.h_bits}
        return {**self.report.to_json(), "gate": self.gate_id, "policy": policy}

    def render(self, console: Any) -> None:
        from rich.table import Table

        figures, seconds = self.report.to_json(), self.report.seconds
        table = Table(
            title=f"{self.gate_id}, {self.policy.rule.value}, eagerness {self.policy.eagerness:+g}", title_justify="left"
        )
        for heading in ("requests", "generated", "shown", "withheld", "kept of shown", "seconds saved per request"):
            table.add_column(heading, justify="right")
        kept = "not known" if self.report.acceptance is None else f"{self.report.acceptance:.0%}"
        saved = f"{seconds.estimate:+.3f} [{seconds.low:+.3f}, {seconds.high:+.3f}]"
        table.add_row(*(str(figures[name]) for name in ("n", "generated", "shown", "withheld")), kept, saved)
        console.print(table)
        console.print(f"[bold]{self.report.verdict}[/]. {self.report.reason}", highlight=False)
        if self.report.silence is not None:
            console.print(f"• {self.report.silence.sentence}", highlight=False)
        for count_of, count in self.report.left_out.items():
            console.print(f"• {count} requests left out: {count_of}.", highlight=False)
        for warning in self.report.warnings:
            console.print(f"• {warning}", highlight=False)


def run_replay(options: ReplayOptions) -> Replayed:
    """Replay the log. Raises InputError, DataError, ArtifactError and the store's errors."""
    store = StoreSettings.from_environment(options.database)
    artifact = active_artifact(store.home) if options.gate is None else given_artifact(options.gate)
    if options.rule not in tuple(Rule):
        raise InputError(f"--rule must be one of {', '.join(Rule)}, not {options.rule!r}.")
    try:
        policy = Policy(artifact.h_bits, options.eagerness, rule=Rule(options.rule), value_limit=artifact.value_limit)
    except ValueError as error:
        raise InputError(str(error)) from error
    origins = origins_of(options.origins, options.include_simulated)
    repository = Repository(store.database_url, create=options.database is None)
    try:
        since, until = moment_of(options.since), moment_of(options.until)
        requests = repository.requests(origins=origins, since=since, until=until)
        if options.progress:
            requests = _told(requests, repository.count(Decision, origins))
        report = replay(requests, artifact, policy, seed=options.seed, shadow_labels=options.shadow_labels)
        return Replayed(report, artifact.id, policy)
    except DataError as error:
        hint = "" if options.include_simulated else " Simulated sessions count only with --include-simulated."
        raise InputError(f"{error}{hint}") from error
    finally:
        repository.close()


def _told(requests: Iterator[LoggedRequest], most: int) -> Iterator[LoggedRequest]:
    """The same requests, with a line for each thousand; `most` is how many there are at most."""
    step = lines(-(-most // 1000))
    for index, request in enumerate(requests, start=1):
        if index % 1000 == 0:
            step()
        yield request


def origins_of(names: Sequence[str], include_simulated: bool = False) -> tuple[Origin, ...]:
    """The origins of these names, the editor's sessions where none is named. Raises `InputError` for an unknown name."""
    try:
        named = [Origin(name) for name in names] or [Origin.EDITOR]
    except ValueError as error:
        raise InputError(f"--origin must be one of {', '.join(Origin)}, not {', '.join(names)}.") from error
    return tuple(dict.fromkeys([*named, Origin.SIMULATED] if include_simulated else named))


def moment_of(text: str | None) -> datetime | None:
    """A moment in ISO 8601, in UTC where it names no zone. Raises `InputError`."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{text!r} is not a moment in ISO 8601, for example 2026-11-20T09:00.") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
