"""From logged requests to aligned arrays: one row per suggestion that was shown, seen and judged.

A row needs a suggestion that was shown and an outcome the programmer can have meant. `not_seen` is no label; simulated rows
never mix with real ones unless asked for; a row of another feature version says nothing to this one. Whatever is left out is
counted by its reason, so that a report can say how much data there really was.

Rows shown by an ε-trial stand for the many that were withheld: they weigh 1/propensity, clipped at `MAX_WEIGHT` (clipping
trades a little bias for much variance: Ionides, "Truncated Importance Sampling", 2008).

Privacy level `metrics` is enough: features are read from the log (`Context.features`, `Suggestion.features`), never text.

One code path: a database, a parquet export and requests in memory all arrive as `RequestColumns`, a batch at a time, so memory
holds one batch and the numbers gathered so far (`coderl_gate.bulk`), and the cost is linear in the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from coderl_store.columns import RequestColumns
from coderl_store.records import Action, Evidence, Origin, OutcomeKind
from coderl_store.repository import LoggedRequest

from .bulk import Gathered, feature_matrix, mapping, numbers, seconds
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
READING_SHARE: Final[Mapping[bool, float]] = MappingProxyType({True: 0.75, False: 0.21})
"""Share of the visible time that programmers themselves labelled "Thinking/Verifying Suggestion", where the suggestion was
kept and where not. In the CUPS telemetry (`coderl_gate.cups`) they labelled 2.15 and 0.67 s on average; the visible time,
clipped and with what looks like something else weighted down (`coderl_gate.reading`), is 2.87 and 3.16 s (3.55 and 4.83 s
if only clipped)."""

_KEPT: Final = (OutcomeKind.ACCEPTED, OutcomeKind.PARTIALLY_ACCEPTED, OutcomeKind.TYPED_THROUGH)
_UNTIMED: Final = (OutcomeKind.TIMED_OUT, OutcomeKind.TYPED_THROUGH, OutcomeKind.NOT_SEEN)

Floats = NDArray[np.float64]
Labels = NDArray[np.str_]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Dataset:
    """n judged suggestions as aligned arrays, in order of time within each user. Missing numbers are NaN.

    Beyond `bulk.EXACT_ROWS` rows `before` and `after` are in single precision.
    """

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


def build(requests: Iterable[LoggedRequest], selection: Selection | None = None) -> Dataset:
    """Collect the judged suggestions among requests in memory, in whatever order they come. Raises as `collect`."""
    ordered = sorted(requests, key=lambda request: (request.decision.at, request.decision.id))
    return collect([columns_of(ordered)], selection)


def collect(batches: Iterable[RequestColumns], selection: Selection | None = None) -> Dataset:
    """Collect the judged suggestions of a log that comes in batches, by (at, id) of the decisions.

    Raises `DataError` (one sentence) for an empty log, for one without judged suggestions, and where fewer than
    `MIN_PER_CLASS` were kept or rejected.
    """
    return dataset_of(gather(batches, selection or Selection()))


def dataset_of(found: Judged) -> Dataset:
    """What was gathered as a data set. Raises as `collect`."""
    if not found.total:
        raise DataError("The log is empty: use the editor for a while, or calibrate with --from-cups DIR.")
    if not found.numbers.rows:
        what = ", ".join(f"{count} {reason}" for reason, count in found.skipped.most_common())
        raise DataError(f"None of the {found.total} logged requests is a judged suggestion ({what}).")
    dataset = _dataset(found)
    kept = int(dataset.kept.sum())
    if min(kept, len(dataset) - kept) < MIN_PER_CLASS:
        raise DataError(
            f"{kept} kept and {len(dataset) - kept} rejected suggestions are too few: {MIN_PER_CLASS} of each are needed."
        )
    return dataset


@dataclass(frozen=True, slots=True)
class Part:
    """The judged suggestions of one batch."""

    total: int
    """Requests looked at."""
    arrays: dict[str, NDArray[Any]]
    """`user` (an index into `users`), `ids`, and the arrays of `Dataset` by their names; (k, …) each."""
    users: tuple[str, ...]
    skipped: Counter[str]


@dataclass(frozen=True, slots=True)
class Judged:
    """The judged suggestions of many batches, in the order of arrival; names as in `Part`."""

    total: int
    numbers: Gathered
    users: tuple[str, ...]
    skipped: Counter[str]


def gather(batches: Iterable[RequestColumns], selection: Selection) -> Judged:
    """Filter and convert, without a verdict on what is found: a part of a log may well be empty."""
    seen: set[str] = set()
    return merged(judge(columns, selection, seen) for columns in batches)


def judge(columns: RequestColumns, selection: Selection, seen: set[str]) -> Part:
    """Filter and convert one batch. `seen` holds the ids of the decisions before it, and gets those of this one."""
    skipped: Counter[str] = Counter()
    rows, before, after = _chosen(columns, selection, seen, skipped)
    codes: dict[str, int] = {}
    users = [codes.setdefault(columns.user_key[row], len(codes)) for row in rows.tolist()]
    arrays = {"before": before, "after": after, **_numbers(columns, rows)}
    arrays |= {"user": np.array(users, dtype=np.intp), "ids": _picked(columns.suggestion_id, rows)}
    return Part(len(columns), arrays, tuple(codes), skipped)


def merged(parts: Iterable[Part]) -> Judged:
    """Batches as one, in their order."""
    gathered, total = Gathered(), 0
    codes: dict[str, int] = {}
    skipped: Counter[str] = Counter()
    for part in parts:
        total += part.total
        skipped += part.skipped
        if part.users:
            names = np.array([codes.setdefault(user, len(codes)) for user in part.users])
            gathered.add({**part.arrays, "user": names[part.arrays["user"]]})
    return Judged(total, gathered, tuple(codes), skipped)


def columns_of(requests: Sequence[LoggedRequest]) -> RequestColumns:
    """Requests in memory as the columns that a database gives."""
    return RequestColumns.of_rows([_row(request) for request in requests])


def _row(request: LoggedRequest) -> tuple[Any, ...]:
    context, decision, suggestion, outcome = request.context, request.decision, request.suggestion, request.outcome
    last = max(request.survival, key=lambda survival: survival.after_s, default=None)
    generated: tuple[Any, ...] = (None,) * 5
    if suggestion is not None:
        generated = (suggestion.id, suggestion.chars, suggestion.lines, suggestion.features, suggestion.feature_version)
    ended: tuple[Any, ...] = (None,) * 6
    if outcome is not None:
        ended = (
            outcome.at, outcome.kind.value, outcome.evidence.value, outcome.visible_ms, outcome.reading_ms,
            outcome.accepted_chars,
        )  # fmt: skip
    return (
        decision.id, decision.at, request.session.id, request.session.user_key, request.session.origin.value,
        decision.action.value, decision.propensity, None if decision.costs is None else {"t_wait_s": decision.costs.t_wait_s},
        context.features, context.feature_version, context.typing_interval_ms, *generated, *ended,
        None if last is None else last.share,
    )  # fmt: skip


def _chosen(
    columns: RequestColumns, selection: Selection, seen: set[str], skipped: Counter[str]
) -> tuple[NDArray[np.intp], Floats, Floats]:
    """The rows that may enter, with their features; the others are counted in `skipped`, each under its first reason."""
    left: Mask = np.ones(len(columns), dtype=bool)

    def leave(out: Mask, reason: str) -> None:
        count = int((left & out).sum())
        if count:
            skipped[reason] += count
            left[out] = False

    origin, evidence, kind = (
        np.array(column, dtype=object) for column in (columns.origin, columns.evidence, columns.outcome_kind)
    )
    for value in sorted(set(columns.origin) - {member.value for member in selection.origins}):
        leave(origin == value, f"of {value} sessions")
    leave(_repeated(columns.decision_id, left, seen), "with an id that occurred before")
    nothing = np.array([key is None for key in columns.suggestion_id], dtype=bool)
    leave(nothing | (np.array(columns.action, dtype=object) != Action.SHOW.value), "where nothing was shown")
    leave(kind == None, "without an outcome yet")  # noqa: E711  # elementwise
    leave(kind == OutcomeKind.NOT_SEEN.value, "not seen by anybody")
    for weak in sorted(
        {value for value in columns.evidence if value is not None} - {member.value for member in selection.evidence}
    ):
        leave(evidence == weak, f"with {weak} evidence only")
    versions = numbers(columns.context_version), numbers(columns.suggestion_version)
    leave((versions[0] != FEATURE_VERSION) | (versions[1] != FEATURE_VERSION), "of another feature version")
    propensity = numbers(columns.propensity)
    leave(~((propensity > 0) & (propensity <= 1)), "with an impossible propensity")
    leave(seconds(columns.outcome_at) < seconds(columns.decided_at), "whose clock ran backwards")
    candidates = np.flatnonzero(left)
    before, bad = _features(columns.context_features, candidates, CONTEXT_NAMES)
    after, bad_too = _features(columns.suggestion_features, candidates, SUGGESTION_NAMES)
    damaged = np.zeros(len(columns), dtype=bool)
    damaged[candidates] = bad | bad_too
    leave(damaged, "with a feature that is not a finite number")
    accepted, chars = numbers(columns.accepted_chars), numbers(columns.chars)
    leave(~((accepted >= 0) & (accepted <= chars) & (chars != 0)), "with an impossible length")
    return np.flatnonzero(left), before[left[candidates]], after[left[candidates]]


def _repeated(ids: Sequence[str], left: Mask, seen: set[str]) -> Mask:
    """Which of the rows that are left have an id in `seen`, where the new ones are added."""
    again = np.zeros(len(ids), dtype=bool)
    for row in np.flatnonzero(left).tolist():
        again[row] = ids[row] in seen
        seen.add(ids[row])
    return again


def _features(cells: Any, rows: NDArray[np.intp], names: Sequence[str]) -> tuple[Floats, Mask]:
    """The features of some rows (k, len(names)), and which rows hold a number that is not finite."""
    if isinstance(cells, np.ndarray):
        values: Floats = cells[rows].astype(np.float64)
        return values, np.asarray(np.isinf(values).any(axis=1))
    return feature_matrix([cells[row] for row in rows.tolist()], names)


def _picked(values: Sequence[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    return np.array([values[row] for row in rows.tolist()], dtype=object)


def _numbers(columns: RequestColumns, rows: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    """The single columns of a dataset for some rows, (k,) each."""

    def of(values: Sequence[float | None]) -> Floats:
        return numbers(_picked(values, rows))

    kind, chars = _picked(columns.outcome_kind, rows), of(columns.chars)
    kept, accepted = np.isin(kind, _KEPT), np.minimum(of(columns.accepted_chars), chars)
    typing = of(columns.typing_interval_ms)
    visible_s = _clipped_s(of(columns.visible_ms))
    explicit = np.isin(_picked(columns.evidence, rows), sorted(EXPLICIT))
    simulated = _picked(columns.origin, rows) == Origin.SIMULATED.value
    waits = [mapping(cell) for cell in _picked(columns.costs, rows)]
    return {
        "kept": kept.astype(np.float64),
        "weight": np.minimum(MAX_WEIGHT, 1.0 / of(columns.propensity)),
        "at_s": seconds(_picked(columns.decided_at, rows)),
        "chars": chars,
        "lines": of(columns.lines),
        "kept_chars": np.where(kept, np.where(accepted > 0, accepted, chars), 0.0),
        "reading_s": _reading(
            visible_s, _clipped_s(of(columns.reading_ms)), kept, np.isin(kind, _UNTIMED), simulated, explicit
        ),
        "decided_s": visible_s,
        "waited_s": numbers(wait.get("t_wait_s", 0.0) for wait in waits),
        "edited": np.where(kept, 1.0 - np.clip(of(columns.survived), 0.0, 1.0), np.nan),
        "typing_chars_per_s": 1000.0 / np.where(typing > 0, typing, np.nan),
    }


def _dataset(found: Judged) -> Dataset:
    """Everything gathered, by user and time."""
    gathered, names = found.numbers, np.array(found.users, dtype=np.str_)
    rank = np.argsort(np.argsort(names, kind="stable"), kind="stable")
    order = np.lexsort((gathered.column("at_s"), rank[gathered.column("user")]))
    who, solo, n = names[gathered.take("user", order)], len(names) == 1, gathered.rows
    groups = np.array([f"block-{i * SOLO_BLOCKS // n + 1}" for i in range(n)], dtype=np.str_) if solo else who
    made = {"ids", "users", "groups", "skipped", "solo"}
    arrays: dict[str, Any] = {item.name: gathered.take(item.name, order) for item in fields(Dataset) if item.name not in made}
    ids = tuple(gathered.take("ids", order).tolist())
    return Dataset(ids=ids, users=who, groups=groups, skipped=MappingProxyType(dict(found.skipped)), solo=solo, **arrays)


def kept_chars_of(request: LoggedRequest) -> int:
    """Characters that were kept of a request's suggestion; a keep without a count is the whole text."""
    suggestion, outcome = request.suggestion, request.outcome
    if suggestion is None or outcome is None or not outcome.kept:
        return 0
    return min(outcome.accepted_chars, suggestion.chars) or suggestion.chars


def reading_seconds(request: LoggedRequest) -> float | None:
    """Seconds that a shown suggestion kept the programmer from working; None where the log does not say.

    Where reading was measured (`Outcome.reading_ms`), that counts. A simulated programmer who takes or dismisses a suggestion
    has done nothing else while it was visible. A real one thinks about the next step, or types on: of the visible time (clipped
    at `CLIP_S`) only the share in `READING_SHARE` counts. Reading and typing cannot be told apart where the clock ended it,
    where the text was typed through, and where a simulated programmer typed on.
    """
    if request.outcome is None:
        return None
    only = np.array([0], dtype=np.intp)
    columns = columns_of([replace(request, suggestion=None, survival=())])
    kind = columns.outcome_kind
    seconds_read = _reading(
        _clipped_s(numbers(columns.visible_ms)),
        _clipped_s(numbers(columns.reading_ms)),
        np.isin(_picked(kind, only), _KEPT),
        np.isin(_picked(kind, only), _UNTIMED),
        _picked(columns.origin, only) == Origin.SIMULATED.value,
        np.isin(_picked(columns.evidence, only), sorted(EXPLICIT)),
    )[0]
    return None if np.isnan(seconds_read) else float(seconds_read)


def _clipped_s(milliseconds: Floats) -> Floats:
    """Seconds of at most `CLIP_S`; NaN where unknown or negative."""
    return np.where(milliseconds >= 0, np.minimum(CLIP_S, milliseconds / 1000.0), np.nan)


def _reading(visible_s: Floats, measured_s: Floats, kept: Mask, untimed: Mask, simulated: Mask, explicit: Mask) -> Floats:
    """`reading_seconds` of many rows (n,)."""
    share = np.where(kept, READING_SHARE[True], READING_SHARE[False])
    estimated = np.where(simulated, np.where(explicit, visible_s, np.nan), share * visible_s)
    return np.where(np.isnan(measured_s), np.where(untimed, np.nan, estimated), measured_s)
