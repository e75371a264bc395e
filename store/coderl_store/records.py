"""The vocabulary of the log: what every part of the house says to every other (architecture §3).

Each arrow of the data flow is one frozen dataclass of this module. Ids are UUIDv7 strings, times are UTC, and the unit of
a number is in its name (`_ms`, `_s`, `_chars`, `_tokens`, `_bits`). Fields marked *text* below hold the programmer's code;
`coderl_store.privacy` is the only place that decides whether they may leave memory.

One request of an editor makes one `Context`, one `Decision`, and a `Suggestion` per candidate (the first is the one decided
on). A shown one gets exactly one `Outcome`, an accepted one up to five `Survival` rows, what was not taken one `Shadow`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from .reasons import Reason as Reason
from .shadow import Shadow
from .snapshot import Activity, Syntax

Features = Mapping[str, float | None]
"""Feature name → value. A value that could not be computed is None (never 0)."""


class Origin(StrEnum):
    """Where a session comes from. Only `EDITOR` rows enter training unless the user asks for others in words."""

    EDITOR = "editor"
    SIMULATED = "simulated"
    IMPORTED = "imported"


class Privacy(StrEnum):
    """What a row may carry. Enforced where rows are made, not where they are read."""

    OFF = "off"
    """Nothing is recorded."""
    METRICS = "metrics"
    """Features and numbers only; no code, no suggestion text, no token ids (ids are text in another alphabet). The default."""
    CODE = "code"
    """Context and suggestion text too; needed for training the generator."""


class Trigger(StrEnum):
    """LSP `InlineCompletionTriggerKind`."""

    INVOKED = "invoked"
    AUTOMATIC = "automatic"


class Route(StrEnum):
    """What stage 1 ordered."""

    SKIP = "skip"
    """Nothing is generated."""
    DRAFT = "draft"
    """The cheap budget: a short greedy line, shown without stage 2."""
    FULL = "full"
    """Full generation, judged by stage 2."""


class Stage(StrEnum):
    """Who took the decision."""

    RULE = "rule"
    """A user control, a safety rule or a failure; no model was asked."""
    BEFORE = "before"
    """The context-only model."""
    AFTER = "after"
    """The model that saw the suggestion."""


class Action(StrEnum):
    """What reached the editor."""

    SHOW = "show"
    WITHHOLD = "withhold"


class OutcomeKind(StrEnum):
    """The one terminal outcome of a shown suggestion (architecture §3)."""

    ACCEPTED = "accepted"
    PARTIALLY_ACCEPTED = "partially_accepted"
    TYPED_THROUGH = "typed_through"
    DISMISSED = "dismissed"
    DISAGREED = "disagreed"
    DELETED = "deleted"
    MOVED_ON = "moved_on"
    TIMED_OUT = "timed_out"
    NOT_SEEN = "not_seen"


KEPT_KINDS = frozenset({OutcomeKind.ACCEPTED, OutcomeKind.PARTIALLY_ACCEPTED, OutcomeKind.TYPED_THROUGH})
"""The programmer took the text: whole, in part, or by typing it."""


class Evidence(StrEnum):
    """How an outcome is known. Never mixed silently: models may weigh or drop the weaker kinds."""

    COMMAND = "command"
    NOTIFICATION = "notification"
    INFERRED = "inferred"
    TIMEOUT = "timeout"
    IMPORTED = "imported"


class Severity(StrEnum):
    """How bad an incident is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Session:
    """One run of one editor (or simulator, or import) against one server."""

    id: str
    at: datetime
    origin: Origin
    user_key: str
    """Salted hash; the same programmer keeps the same key on one installation."""
    client_name: str = ""
    client_version: str = ""
    server_version: str = ""
    generator_id: str = ""
    gate_id: str = ""
    seed: int | None = None
    """Set for simulated and replayed sessions, which are deterministic."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the gate may see before anything is generated: a snapshot of one place at one moment.

    `line` and `character` are zero-based; `character` counts Unicode code points. `None` means not known (an imported log
    has no text after the cursor), which is not the same as zero or empty.
    """

    id: str
    at: datetime
    session_id: str
    language: str
    document_key: str
    """Salted hash of the document's URI."""
    line: int
    character: int
    trigger: Trigger
    document_version: int | None = None
    document_chars: int | None = None
    document_lines: int | None = None
    offset_chars: int | None = None
    prefix: str | None = None
    """*text*: a bounded window before the cursor."""
    suffix: str | None = None
    """*text*: a bounded window after the cursor."""
    typing_interval_ms: float | None = None
    """Mean gap between the last keystrokes (at most 20, gaps over 2 s left out)."""
    since_edit_ms: float | None = None
    since_decision_ms: float | None = None
    """Time since the last suggestion of this session got its outcome."""
    recent_accepts: tuple[bool, ...] = ()
    """Outcomes of this session's last (at most 10) seen suggestions, oldest first; True = kept."""
    session_s: float | None = None  # age of the session
    syntax: Syntax | None = None
    """None where no grammar of the language is installed."""
    activity: Activity | None = None
    since_dismissal_ms: float | None = None
    """Time since this session's last explicit dismissal; None before the first."""
    cooldown_ms: float | None = None
    """What is left of the quiet time after a dismissal, 0 where it is over."""
    recent_rejections: tuple[str, ...] | None = None
    """*text*: the last (at most 5) suggestions that were not kept, oldest first, each cut at 400 characters."""
    features: Features = field(default_factory=dict)
    """What `coderl_gate.features` computed from this snapshot; kept because `metrics` rows carry no text."""
    feature_version: int = 0


@dataclass(frozen=True, slots=True)
class Costs:
    """The seconds that showing one suggestion would cost and save (architecture §4). All are ≥ 0."""

    t_wait_s: float
    t_verify_s: float
    t_write_s: float
    t_edit_s: float


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one request went; None = the stage did not run."""

    gate_before_ms: float | None = None
    """Context features and stage 1."""
    generate_ms: float | None = None
    gate_after_ms: float | None = None
    total_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided on one request, why, and with what probability (architecture §3, §4)."""

    id: str
    at: datetime
    session_id: str
    context_id: str
    route: Route
    stage: Stage
    action: Action
    reason: Reason
    p1: float | None
    entropy_bits: float | None
    tau_before: float | None
    """Threshold on p1, from the costs expected before generation."""
    p2: float | None
    tau: float | None
    """Threshold on p2, from the costs of the concrete suggestion."""
    expected_costs: Costs | None
    costs: Costs | None
    epsilon_skip: float
    epsilon_withhold: float
    coin_before: float
    coin_after: float
    propensity: float
    """Exact P(route, action) under the acting policy, given p1 and p2; P(route) where a rule or failure settled the rest."""
    gate_id: str
    generator_id: str
    eagerness: float = 0.0
    """The value in force: the dial plus what adaptation added, in [−1, 1]. Thresholds, propensity and replay rest on it."""
    h_bits: float | None = None
    """The entropy limit in force."""
    timings: Timings = Timings()
    adaptation: float | None = None
    """What online adaptation added to the dial (`coderl_gate.adaptation`); None = switched off, or no gate was asked."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One generated text, shown or not."""

    id: str
    at: datetime
    session_id: str
    decision_id: str
    lineage_id: str
    """One idea keeps one lineage through typed-through reuse, cache and re-serving."""
    generator_id: str
    chars: int
    lines: int
    tokens: int
    text: str | None = None
    """*text*"""
    token_ids: tuple[int, ...] = ()
    """*text* (in another alphabet)"""
    logprobs: tuple[float, ...] = ()
    """Natural-log probability of each token under the sampling distribution (the behaviour policy)."""
    adapter_id: str = ""
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 0
    seed: int | None = None
    first_token_ms: float | None = None
    latency_ms: float | None = None
    finish_reason: str = ""
    features: Features = field(default_factory=dict)
    feature_version: int = 0
    source: str | None = None
    """`generated` for this request, `joined` (begun for an earlier one) or `remembered`; None: not known (earlier versions)."""
    rank: int | None = None
    """Among the candidates of its decision: 0 = the one decided on, then the best first; None = it was the only one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The terminal outcome of one shown suggestion."""

    id: str
    at: datetime
    session_id: str
    suggestion_id: str
    decision_id: str
    kind: OutcomeKind
    evidence: Evidence
    visible_ms: float | None = None
    accepted_chars: int = 0
    detail: str = ""
    """A short machine word, for example `text_mismatch` when a command and the document disagree. Never code."""
    reading_ms: float | None = None
    """*Measured* time of reading and judging it (imported studies with labelled recordings); None for every editor."""

    @property
    def seen(self) -> bool:
        """False for what the programmer cannot have judged; such rows are never negatives in training."""
        return self.kind is not OutcomeKind.NOT_SEEN

    @property
    def kept(self) -> bool:
        """True where the programmer took the text (whole, in part, or by typing it)."""
        return self.kind in KEPT_KINDS


@dataclass(frozen=True, slots=True)
class Survival:
    """Share of an accepted text that is still there some time later (character edit distance in a tracked range)."""

    id: str
    at: datetime
    session_id: str
    suggestion_id: str
    after_s: float
    share: float


@dataclass(frozen=True, slots=True)
class Incident:
    """Something failed and typing went on. `message` never holds code."""

    id: str
    at: datetime
    session_id: str
    severity: Severity
    code: str
    message: str
    data: Mapping[str, str | int | float | None] = field(default_factory=dict)


Record = Session | Context | Decision | Suggestion | Outcome | Survival | Shadow | Incident
"""Everything that can be appended to the log."""

RECORD_TYPES: tuple[type[Record], ...] = (Session, Context, Decision, Suggestion, Outcome, Survival, Shadow, Incident)
