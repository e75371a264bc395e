"""`coderl why`: the last decisions of the log in words, with what adaptation and drift make of them. Needs no server."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from coderl_gate.adaptation import Adaptation, Judged, adaptation
from coderl_gate.drift import Drift, judgement
from coderl_store.clock import Clock, SystemClock, utc
from coderl_store.codec import encode
from coderl_store.home import StoreSettings
from coderl_store.records import Decision, Origin, Outcome
from coderl_store.repository import LoggedRequest, Repository

from .drifting import drifts_of
from .errors import InputError
from .wording import in_words

LOOK_BACK_DAYS = (1, 7, 28, None)
"""How far back the decisions are looked for, in turn; None = to the beginning."""
REMEMBERED = 50
"""Judged suggestions of one session that are looked at: outcomes come up to 10 s after decisions, in another order."""


@dataclass(frozen=True, slots=True)
class Explained:
    """What `coderl why` says."""

    requests: tuple[LoggedRequest, ...]
    """The last ones, oldest first."""
    adaptation: Adaptation
    """Of the session that asked last, at this moment."""
    drifts: tuple[Drift, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "decisions": [_plain(request.decision, request.outcome) for request in self.requests],
            "adaptation": {**asdict(self.adaptation), "sentence": self.adaptation.sentence()},
            "drift": [
                {
                    **asdict(drift),
                    "since": drift.since.isoformat(),
                    "until": drift.until.isoformat(),
                    "alarm": drift.alarm,
                    "sentence": drift.sentence(),
                }
                for drift in self.drifts
            ],
        }

    def render(self, console: Any) -> None:
        from rich.table import Table

        table = Table(title=f"The last {len(self.requests)} decisions", title_justify="left")
        for heading in ("time (UTC)", "action", "p1", "needed", "p2", "needed", "eagerness", "reason", "outcome"):
            table.add_column(heading)
        for request in self.requests:
            decision, outcome = request.decision, request.outcome
            shares = (decision.p1, decision.tau_before, decision.p2, decision.tau)
            table.add_row(
                f"{decision.at:%m-%d %H:%M:%S}",
                decision.action.value,
                *(_share(value) for value in shares),
                f"{decision.eagerness:+.2f}",
                decision.reason.value,
                "–" if outcome is None else outcome.kind.value,
            )
        console.print(table)
        last = self.requests[-1].decision
        console.print(f"[bold]The last one[/]: {in_words(last)}", highlight=False)
        costs = last.costs or last.expected_costs
        if costs is not None:
            saved = costs.t_write_s - costs.t_edit_s
            read = (
                f"{'Its' if last.costs else 'Expected'} costs: {costs.t_verify_s:.2f} s to read, {costs.t_wait_s:.2f} s waited"
            )
            console.print(f"{read}; kept, it saves {saved:.2f} s of typing and thinking.", highlight=False)
        console.print(f"[bold]Adaptation[/]: {self.adaptation.sentence()}", highlight=False)
        for drift in self.drifts:
            console.print(f"[bold]{'Drift' if drift.alarm else 'No drift'}[/]: {drift.sentence()}", highlight=False)


def explain(
    last: int, *, include_simulated: bool = False, database: str | None = None, clock: Clock | None = None
) -> Explained:
    """Read the log. Raises InputError where it holds no decision, and the store's errors."""
    clock = clock or SystemClock()
    origins = (Origin.EDITOR, Origin.SIMULATED) if include_simulated else (Origin.EDITOR,)
    repository = Repository(StoreSettings.from_environment(database).database_url, create=database is None)
    try:
        now = utc(clock.now_s())
        requests, outcomes = _last(repository, origins, now, last)
        if not requests:
            hint = "" if include_simulated else " Simulated sessions count only with --include-simulated."
            raise InputError(f"The log holds no decision yet: use the editor for a while.{hint}")
        return Explained(requests, adaptation(outcomes, clock.now_s()), drifts_of(repository, now, origins=origins))
    finally:
        repository.close()


def _last(
    repository: Repository, origins: Sequence[Origin], now: datetime, last: int
) -> tuple[tuple[LoggedRequest, ...], list[Judged]]:
    """The last requests, and the judged suggestions of the session that asked last, by the time of their outcome."""
    for days in LOOK_BACK_DAYS:
        since = None if days is None else now - timedelta(days=days)
        requests: deque[LoggedRequest] = deque(maxlen=max(last, REMEMBERED))
        requests.extend(repository.requests(origins=origins, since=since))
        if len(requests) >= last:
            break
    taken = list(requests)
    return tuple(taken[-last:]), _judged(taken)


def _judged(requests: Iterable[LoggedRequest]) -> list[Judged]:
    found = list(requests)
    if not found:
        return []
    session = found[-1].session.id
    judged = []
    for request in found:
        one = judgement(request.decision, request.outcome, request.session.user_key)
        if one is not None and request.outcome is not None and request.session.id == session:
            judged.append(Judged(request.outcome.at.timestamp(), one.p, one.kept))
    return sorted(judged, key=lambda one: one.at_s)


def _plain(decision: Decision, outcome: Outcome | None) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(encode(decision))["fields"]
    return {
        **fields,
        "sentence": decision.reason.sentence,
        "text": in_words(decision),
        "outcome": None if outcome is None else outcome.kind.value,
    }


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
