"""From logged requests to aligned arrays: one row per suggestion that was shown, seen and judged.

A row needs a suggestion that was shown and an outcome the programmer can have meant. `not_seen` is no label; simulated rows
never mix with real ones unless asked for; a row of another feature version says nothing to this one. Whatever is left out is
counted by its reason, so that a report can say how much data there really was.

Rows shown by an ε-trial stand for the many that were withheld: they weigh 1/propensity, clipped at `MAX_WEIGHT` (clipping
trades a little bias for much variance: Ionides, "Truncated Importance Sampling", 2008).

Privacy level `metrics` is enough: features are read from the log (`Context.features`, `Suggestion.features`), never text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from coderl_store.records import Action, Evidence, Features, Origin, OutcomeKind
from coderl_store.repository import LoggedRequest

from .catalogue import CONTEXT_NAMES, FEATURE_VERSION, SUGGESTION_NAMES
from .errors import DataError

MAX_WEIGHT: Final = 20.0
"""Largest weight of one row."""
MIN_PER_CLASS: Final = 5
"""Fewer kept or rejected suggestions than this: nothing can be fitted."""
SOLO_BLOCKS: Final = 5
"""Into how many contiguous blocks of time the log of a single programmer is cut."""
EXPLICIT: Final = frozenset({Evidence.COMMAND, Evidence.NOTIFICATION, Evidence.IMPORTED})
"""Evidence that does not rest on our own inference."""
REAL: Final = frozenset({Origin.EDITOR})
"""Where training rows come from unless the user asks for others."""
CLIP_S: Final = 10.0
"""A suggestion that was visible longer was not looked at all the time: longer decisions count as this long."""
READING_SHARE: Final[Mapping[bool, float]] = MappingProxyType({True: 0.60, False: 0.14})
"""Share of the visible time (clipped) that programmers themselves labelled "Thinking/Verifying Suggestion", where the
suggestion was kept and where not: 2.15 of 3.55 s and 0.67 of 4.83 s on average in the CUPS telemetry
(`coderl_gate.cups`)."""

Floats = NDArray[np.float64]
Labels = NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Dataset:
    """n judged suggestions as aligned arrays, in order of time within each user. Missing numbers are NaN."""

    ids: tuple[str, ...]
    """Suggestion ids, (n,)."""
    before: Floats
    """Context features, (n, len(CONTEXT_NAMES))."""
    after: Floats
    """Suggestion features, (n, len(SUGGESTION_NAMES))."""
    kept: Floats
    """1 = kept, 0 = not, (n,)."""
    weight: Floats
    """1/propensity clipped at `MAX_WEIGHT`, (n,)."""
    users: Labels
    """User keys, (n,)."""
    groups: Labels
    """What cross-validation holds out together, (n,): users, or blocks of time where there is one user only."""
    at_s: Floats
    """Time of the decision, seconds since 1970, (n,)."""
    chars: Floats
    lines: Floats
    kept_chars: Floats
    """Characters kept of each suggestion, (n,)."""
    reading_s: Floats
    """Seconds spent reading and judging (`reading_seconds`); NaN where the log does not say, (n,)."""
    decided_s: Floats
    """Seconds from shown to decided, at most `CLIP_S`, whatever the programmer did meanwhile; NaN where not logged, (n,)."""
    waited_s: Floats
    """Seconds the programmer stood still waiting, as logged; 0 where not logged, (n,)."""
    edited: Floats
    """Share of an accepted text that was rewritten by the last known look at it; NaN where never looked, (n,)."""
    typing_chars_per_s: Floats
    """Typing speed, from the mean gap between keystrokes; NaN where not known, (n,)."""
    skipped: Mapping[str, int]
    """Reason → how many requests were left out."""
    solo: bool
    """There is one user, so `groups` are blocks of time and nothing says how the gate does for others."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def data_hash(self) -> str:
        """SHA-256 over suggestion ids and their labels: same hash, same training rows."""
        digest = sha256()
        for key, kept, chars in zip(self.ids, self.kept, self.kept_chars, strict=True):
            digest.update(f"{key} {int(kept)} {int(chars)}\n".encode())
        return digest.hexdigest()

    def take(self, rows: NDArray[np.bool_]) -> Dataset:
        """The rows where `rows` (n,) is true."""
        ids = tuple(key for key, chosen in zip(self.ids, rows, strict=True) if chosen)
        arrays: dict[str, Any] = {
            item.name: value[rows] for item in fields(self) if isinstance(value := getattr(self, item.name), np.ndarray)
        }
        return replace(self, ids=ids, **arrays)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which logged requests may enter."""

    origins: frozenset[Origin] = REAL
    evidence: frozenset[Evidence] = frozenset(Evidence)
    reading_s: Mapping[str, float] = field(default_factory=dict)
    """Suggestion id → measured seconds of reading, where something better than the visible time is known."""


def build(requests: Iterable[LoggedRequest], selection: Selection | None = None) -> Dataset:
    """Collect the judged suggestions of a log.

    Raises `DataError` (one sentence) for an empty log, for one without judged suggestions, and where fewer than
    `MIN_PER_CLASS` were kept or rejected.
    """
    selection = selection or Selection()
    skipped: Counter[str] = Counter()
    seen: set[str] = set()
    rows: list[LoggedRequest] = []
    total = 0
    for request in requests:
        total += 1
        reason = _why_not(request, selection, seen)
        if reason is None:
            rows.append(request)
        else:
            skipped[reason] += 1
    if not total:
        raise DataError("The log is empty: use the editor for a while, or calibrate with --from-cups DIR.")
    if not rows:
        what = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
        raise DataError(f"None of the {total} logged requests is a judged suggestion ({what}).")
    rows.sort(key=lambda row: (row.session.user_key, row.decision.at, row.decision.id))
    dataset = _arrays(rows, skipped, selection.reading_s)
    kept = int(dataset.kept.sum())
    if min(kept, len(dataset) - kept) < MIN_PER_CLASS:
        raise DataError(
            f"{kept} kept and {len(dataset) - kept} rejected suggestions are too few: {MIN_PER_CLASS} of each are needed."
        )
    return dataset


def _why_not(request: LoggedRequest, selection: Selection, seen: set[str]) -> str | None:
    """The reason to leave a request out, as a phrase after a count; None to take it."""
    suggestion, outcome, decision = request.suggestion, request.outcome, request.decision
    if request.session.origin not in selection.origins:
        return f"of {request.session.origin} sessions"
    if decision.id in seen:
        return "with an id that occurred before"
    seen.add(decision.id)
    if decision.action is not Action.SHOW or suggestion is None:
        return "where nothing was shown"
    if outcome is None:
        return "without an outcome yet"
    if outcome.kind is OutcomeKind.NOT_SEEN:
        return "not seen by anybody"
    if outcome.evidence not in selection.evidence:
        return f"with {outcome.evidence} evidence only"
    if request.context.feature_version != FEATURE_VERSION or suggestion.feature_version != FEATURE_VERSION:
        return "of another feature version"
    if not (math.isfinite(decision.propensity) and 0 < decision.propensity <= 1):
        return "with an impossible propensity"
    if outcome.at < decision.at:
        return "whose clock ran backwards"
    if any(_broken(value) for features in (request.context.features, suggestion.features) for value in features.values()):
        return "with a feature that is not a finite number"
    if not 0 <= outcome.accepted_chars <= suggestion.chars or suggestion.chars == 0:
        return "with an impossible length"
    return None


def _broken(value: float | None) -> bool:
    return value is not None and not math.isfinite(value)


def _arrays(rows: Sequence[LoggedRequest], skipped: Counter[str], reading_s: Mapping[str, float]) -> Dataset:
    users = np.array([row.session.user_key for row in rows], dtype=np.str_)
    solo = len(set(users.tolist())) == 1
    n = len(rows)
    groups = np.array([f"block-{i * SOLO_BLOCKS // n + 1}" for i in range(n)], dtype=np.str_) if solo else users
    suggestions = [row.suggestion for row in rows if row.suggestion is not None]
    outcomes = [row.outcome for row in rows if row.outcome is not None]
    kept = [outcome.kept for outcome in outcomes]
    return Dataset(
        ids=tuple(suggestion.id for suggestion in suggestions),
        before=matrix([row.context.features for row in rows], CONTEXT_NAMES),
        after=matrix([suggestion.features for suggestion in suggestions], SUGGESTION_NAMES),
        kept=np.array(kept, dtype=np.float64),
        weight=np.array([min(MAX_WEIGHT, 1.0 / row.decision.propensity) for row in rows]),
        users=users,
        groups=groups,
        at_s=np.array([row.decision.at.timestamp() for row in rows]),
        chars=np.array([suggestion.chars for suggestion in suggestions], dtype=np.float64),
        lines=np.array([suggestion.lines for suggestion in suggestions], dtype=np.float64),
        kept_chars=np.array([kept_chars_of(row) for row in rows], dtype=np.float64),
        reading_s=_floats(
            reading_s.get(suggestion.id, reading_seconds(row)) for row, suggestion in zip(rows, suggestions, strict=True)
        ),
        decided_s=_floats(_visible_s(row) for row in rows),
        waited_s=_floats(0.0 if row.decision.costs is None else row.decision.costs.t_wait_s for row in rows),
        edited=_floats(_edited(row) for row in rows),
        typing_chars_per_s=_floats(_typing_speed(row.context.typing_interval_ms) for row in rows),
        skipped=MappingProxyType(dict(skipped)),
        solo=solo,
    )


def matrix(features: Iterable[Features], names: Sequence[str]) -> Floats:
    """Feature mappings as an array of shape (n, len(names)); missing is NaN."""
    rows = [[math.nan if (value := row.get(name)) is None else value for name in names] for row in features]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(names))


def kept_chars_of(request: LoggedRequest) -> int:
    """Characters that were kept of a request's suggestion; a keep without a count is the whole text."""
    suggestion, outcome = request.suggestion, request.outcome
    if suggestion is None or outcome is None or not outcome.kept:
        return 0
    return min(outcome.accepted_chars, suggestion.chars) or suggestion.chars


def reading_seconds(request: LoggedRequest) -> float | None:
    """Seconds that a shown suggestion kept the programmer from working; None where the log does not say.

    A simulated programmer who takes or dismisses a suggestion has done nothing else while it was visible. A real one thinks
    about the next step, or types on: of the visible time (clipped at `CLIP_S`) only the share in `READING_SHARE` counts.
    Reading and typing cannot be told apart where the clock ended it, where the text was typed through, and where a simulated
    programmer typed on.
    """
    outcome, visible_s = request.outcome, _visible_s(request)
    if outcome is None or visible_s is None:
        return None
    if outcome.kind in (OutcomeKind.TIMED_OUT, OutcomeKind.TYPED_THROUGH, OutcomeKind.NOT_SEEN):
        return None
    if request.session.origin is Origin.SIMULATED:
        return visible_s if outcome.evidence in EXPLICIT else None
    return READING_SHARE[outcome.kept] * visible_s


def _visible_s(request: LoggedRequest) -> float | None:
    outcome = request.outcome
    if outcome is None or outcome.visible_ms is None or outcome.visible_ms < 0:
        return None
    return min(CLIP_S, outcome.visible_ms / 1000)


def _edited(request: LoggedRequest) -> float | None:
    if request.outcome is None or not request.outcome.kept or not request.survival:
        return None
    last = max(request.survival, key=lambda survival: survival.after_s)
    return 1.0 - min(1.0, max(0.0, last.share))


def _typing_speed(interval_ms: float | None) -> float | None:
    return 1000.0 / interval_ms if interval_ms is not None and interval_ms > 0 else None


def _floats(values: Iterable[float | None]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
