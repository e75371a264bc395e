"""The CUPS telemetry as requests of our own log, so that one code path fits the gate on either.

Source: Mozannar et al., "Reading Between the Lines: Modeling User Behavior and Costs in AI-Assisted Programming" (CHI 2024),
repository microsoft/coderec_programming_states, MIT: programmers working with GitHub Copilot in August 2022, every event of
every suggestion. A *decision* is an Accepted or Rejected event together with the Shown event before it.

What is carried over: the text before the cursor (without the path header that Copilot puts before it), the suggestion, the
mean token log-prob (as a quantile among this log's own), the history of the same programmer, the time from shown to decided,
how much of it the programmers themselves, watching the recording of their session, labelled as thinking about or verifying the
suggestion (`Outcome.reading_ms`), and how much of an accepted text was rewritten after 15, 30, 120, 300 and 600 seconds.

What the log does not have, and stays missing: the text after the cursor (only its length is known), the typing rhythm, the time
since the last edit, single token log-probs, why a text was rejected. All its suggestions had passed Copilot's filter of 2022.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from coderl_store.clock import VirtualClock
from coderl_store.ids import IdSource
from coderl_store.records import (
    Action,
    Context,
    Decision,
    Evidence,
    Origin,
    Outcome,
    OutcomeKind,
    Reason,
    Route,
    Session,
    Stage,
    Suggestion,
    Survival,
    Trigger,
)
from coderl_store.repository import LoggedRequest

from .errors import DataError
from .features import FEATURE_VERSION, LogprobSummary, context_features, suggestion_features
from .quantiles import QuantileTable
from .syntax import syntax_before

GENERATOR_ID: Final = "copilot-2022-08"
"""Name of the generator whose suggestions these are; its own quantile table is made from this log."""
PROVENANCE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "source": "CUPS telemetry, microsoft/coderec_programming_states",
        "licence": "MIT",
        "citation": "H. Mozannar, G. Bansal, A. Fourney, E. Horvitz: Reading Between the Lines: Modeling User Behavior and "
        "Costs in AI-Assisted Programming. CHI 2024.",
        "selection": "Suggestions that GitHub Copilot's own filter of August 2022 let through; one session per programmer.",
    }
)
"""What an artifact fitted on this log says about it."""
WINDOWS_S: Final = (15.0, 30.0, 120.0, 300.0, 600.0)
"""The `EditPercentage` windows (README of the data)."""
READING: Final = "Thinking/Verifying Suggestion (A)"
"""The label of time spent on the suggestion."""
_HISTORY: Final = 10
REJECTIONS: Final = 5
REJECTION_CHARS: Final = 400
"""What `Context.recent_rejections` holds at most."""
_HEADERS: Final = ("#!/usr/bin/env python3\n# Path: ", "// Language: ", "# Path: ", "// Path: ")


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that was skipped, and why."""

    line: int
    """Line number in `events.jsonl`, from 1."""
    sentence: str


@dataclass(frozen=True, slots=True)
class CupsLog:
    """What `read` found."""

    requests: tuple[LoggedRequest, ...]
    """One per decision, in file order."""
    table: QuantileTable
    """Quantiles of the mean token log-prob of the shown suggestions."""
    problems: tuple[Problem, ...]
    events: int
    """Rows read, good and bad."""
    data_hash: str
    """SHA-256 of the file's bytes, hexadecimal."""


@dataclass(slots=True)
class _Event:
    line: int
    user: str
    at: datetime
    state: str
    suggestion: str
    prompt: str
    measurements: Mapping[str, float]
    edits: tuple[float, ...]
    task: str
    seconds: float
    """Seconds from the event before to this one."""
    label: str
    """What the programmer says they did in those seconds."""


@dataclass(slots=True)
class _Programmer:
    """What has been seen of one user so far."""

    session: Session
    clock: VirtualClock
    ids: IdSource
    last_at: datetime
    shown: _Event | None = None
    reading_s: float = 0.0
    """Labelled reading since `shown`."""
    decided_at: datetime | None = None
    history: list[bool] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    """Texts of the rejected suggestions."""


@dataclass(frozen=True, slots=True)
class _Pair:
    session: Session
    ids: IdSource
    context: Context
    shown: _Event
    decided: _Event
    reading_s: float


def read(folder: Path) -> CupsLog:
    """Read `folder/events.jsonl`, or `folder` itself where that is a file.

    Raises `DataError` where there is no such file or no decision in it. A bad row is skipped and listed in `problems`.
    """
    path = folder if folder.is_file() else folder / "events.jsonl"
    if not path.is_file():
        raise DataError(f"There is no events.jsonl in {folder}: give the folder that holds the CUPS telemetry.")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its permissions.") from error
    problems: list[Problem] = []
    events = list(_events(raw, problems))
    pairs = _pair([event for event in events if event is not None], problems)
    if not pairs:
        raise DataError(f"{path} holds no decision: an Accepted or Rejected event after a Shown one is needed.")
    logprobs = [pair.shown.measurements.get("meanLogProb") for pair in pairs]
    table = QuantileTable.of(GENERATOR_ID, {"mean": logprobs})
    requests = tuple(_request(pair, table) for pair in pairs)
    problems.sort(key=lambda problem: problem.line)
    return CupsLog(requests, table, tuple(problems), len(events), sha256(raw).hexdigest())


def _pair(events: Iterable[_Event], problems: list[Problem]) -> list[_Pair]:
    """Every decision with the Shown event before it."""
    pairs: list[_Pair] = []
    programmers: dict[str, _Programmer] = {}
    for event in events:
        who = programmers.get(event.user)
        if who is None:
            who = programmers[event.user] = _programmer(event)
        if event.at < who.last_at:
            problems.append(Problem(event.line, "the clock of this user goes backwards here"))
            continue
        who.last_at = event.at
        who.clock.advance_to(event.at.timestamp())
        if event.state == "Shown":
            who.shown, who.reading_s = event, 0.0
            continue
        who.reading_s += event.seconds if event.label == READING else 0.0
        if event.state not in ("Accepted", "Rejected"):
            continue
        if who.shown is None:
            problems.append(Problem(event.line, f"an {event.state} event without a Shown event before it"))
            continue
        pairs.append(_Pair(who.session, who.ids, _context(who, who.shown), who.shown, event, who.reading_s))
        who.shown, who.decided_at = None, event.at
        who.history.append(event.state == "Accepted")
        if event.state == "Rejected":
            who.rejected.append(pairs[-1].shown.suggestion)
    return pairs


def code_before_cursor(prompt: str) -> str:
    """The prompt without the header (shebang, language, path) that Copilot puts before the document's text.

    A prompt without such a header comes back as it is.
    """
    if not prompt.startswith(_HEADERS):
        return prompt
    lines = prompt.split("\n")
    header = 0
    while header < min(2, len(lines) - 1) and lines[header].startswith(("#!", "# Path: ", "// Path: ", "// Language: ")):
        header += 1
    return "\n".join(lines[header:])


def _events(raw: bytes, problems: list[Problem]) -> Iterator[_Event | None]:
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            yield _event(number, json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            problems.append(Problem(number, f"the row cannot be read ({type(error).__name__}: {error})"))
            yield None


def _event(line: int, row: Any) -> _Event:
    if not isinstance(row, dict):
        raise TypeError("a row must be a JSON object")
    state, suggestion, prompt = row["StateName"], row["CurrentSuggestion"], row["CurrentPrompt"]
    if not isinstance(suggestion, str) or not isinstance(prompt, str):
        raise TypeError("CurrentSuggestion and CurrentPrompt must be text")
    if state == "Shown" and not suggestion:
        raise ValueError("a Shown row without a suggestion")
    measurements = {name: float(value) for name, value in row["Measurements"].items() if value is not None}
    if not all(math.isfinite(value) for value in measurements.values()):
        raise ValueError("a measurement is not a finite number")
    at = datetime.fromisoformat(row["TimeGenerated"])
    if at.tzinfo is None:
        raise ValueError("TimeGenerated has no time zone")
    edits = tuple(float(share) for share in row.get("EditPercentage") or ())
    seconds, label = float(row["TimeSpentInState"]), str(row["LabeledState"])
    if not seconds >= 0:
        raise ValueError("TimeSpentInState is negative or not a number")
    user, task = str(row["UserId"]), str(row.get("Task", ""))
    return _Event(line, user, at, str(state), suggestion, prompt, measurements, edits, task, seconds, label)


def _programmer(event: _Event) -> _Programmer:
    clock = VirtualClock(event.at.timestamp())
    ids = IdSource(clock, random.Random(f"cups-{event.user}"))
    session = Session(
        ids.new(), event.at, Origin.IMPORTED, f"cups-{event.user}", client_name="vscode", generator_id=GENERATOR_ID
    )
    return _Programmer(session, clock, ids, event.at)


def _context(who: _Programmer, shown: _Event) -> Context:
    prefix = code_before_cursor(shown.prompt)
    document_chars = shown.measurements.get("documentLength")
    offset_chars = shown.measurements.get("promptEndPos")
    language = "javascript" if shown.prompt.startswith("// Language: javascript") else "python"
    return Context(
        id=who.ids.new(),
        at=shown.at,
        session_id=who.session.id,
        language=language,
        document_key=sha256(f"{who.session.user_key}\0{shown.task}".encode()).hexdigest()[:16],
        line=prefix.count("\n"),
        character=len(prefix) - (prefix.rfind("\n") + 1),
        trigger=Trigger.AUTOMATIC,
        document_chars=None if document_chars is None else int(document_chars),
        offset_chars=None if offset_chars is None else int(offset_chars),
        prefix=prefix,
        since_decision_ms=None if who.decided_at is None else (shown.at - who.decided_at).total_seconds() * 1000,
        recent_accepts=tuple(who.history[-_HISTORY:]),
        session_s=(shown.at - who.session.at).total_seconds(),
        syntax=syntax_before(language, prefix),
        recent_rejections=tuple(text[:REJECTION_CHARS] for text in who.rejected[-REJECTIONS:]),
    )


def _request(pair: _Pair, table: QuantileTable) -> LoggedRequest:
    session, ids, shown, decided = pair.session, pair.ids, pair.shown, pair.decided
    mean = shown.measurements.get("meanLogProb")
    logprobs = None if mean is None else LogprobSummary(mean=mean, lowest=None, first=None, total=None, tokens=None)
    context = replace(pair.context, features=context_features(pair.context), feature_version=FEATURE_VERSION)
    text, tokens = shown.suggestion, int(shown.measurements.get("numTokens", 0))
    decision = Decision(
        id=ids.new(), at=shown.at, session_id=session.id, context_id=context.id, route=Route.FULL, stage=Stage.AFTER,
        action=Action.SHOW, reason=Reason.WORTH_SHOWING, p1=None, entropy_bits=None, tau_before=None, p2=None, tau=None,
        expected_costs=None, costs=None, epsilon_skip=0.0, epsilon_withhold=0.0, coin_before=1.0, coin_after=1.0,
        propensity=1.0, gate_id="", generator_id=GENERATOR_ID,
    )  # fmt: skip
    suggestion = Suggestion(
        id=ids.new(), at=shown.at, session_id=session.id, decision_id=decision.id, lineage_id=ids.new(),
        generator_id=GENERATOR_ID, chars=len(text), lines=text.count("\n") + 1, tokens=tokens, text=text,
        latency_ms=shown.measurements.get("timeSinceIssuedMs"),
        features=suggestion_features(context, text, logprobs, table), feature_version=FEATURE_VERSION,
    )  # fmt: skip
    accepted = decided.state == "Accepted"
    outcome = Outcome(
        id=ids.new(), at=decided.at, session_id=session.id, suggestion_id=suggestion.id, decision_id=decision.id,
        kind=OutcomeKind.ACCEPTED if accepted else OutcomeKind.DISMISSED, evidence=Evidence.IMPORTED,
        visible_ms=(decided.at - shown.at).total_seconds() * 1000, accepted_chars=len(text) if accepted else 0,
        reading_ms=pair.reading_s * 1000,
    )  # fmt: skip
    survival = tuple(
        Survival(ids.new(), decided.at, session.id, suggestion.id, after_s, 1.0 - min(1.0, max(0.0, edited)))
        for after_s, edited in zip(WINDOWS_S, decided.edits if accepted else (), strict=False)
    )
    return LoggedRequest(session, context, decision, suggestion, outcome, survival)
