"""Rows of the log that a generator can learn from: what was shown, what became of it, and with what probability it was shown.

A row needs the privacy level `code` (text, token ids and log-probs), a suggestion that was shown, and an outcome that the
programmer can have meant. `not_seen`, and what was gone before anybody can have read it, is no negative: such rows are left
out, never counted as rejected. Only sessions of origin `editor` count unless others are named. Whatever is left out is counted
by its reason.

Two figures of a row compete for the place of a reward:

    seconds = kept share · (t_write − t_edit) − (t_wait + t_verify)        architecture §4; `coderl_gate.costs.realised_s`
    kept    = 1 where it was taken, else 0                                  for comparison: it teaches short suggestions

t_edit is the row's own: what of it was rewritten by the last measurement; the programmer's mean share where none was made.

What the log does not hold, and what follows from it. *The token that ended a suggestion* has neither id nor log-prob there, so
where to stop is learned only through the tokens before it. *The sampling distribution*: log-probs are the model's at
temperature 1, so ratios compare models, not decoders; for suggestions decoded greedily (`greedy` counts them) a ratio is no
exact importance weight. *What a withheld suggestion would have earned*: only exploration and the propensities speak for those.
*Other servings of the same idea* are rows of their own; the split keeps them on one side.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Final

from coderl_gate.artifact import GateArtifact
from coderl_gate.catalogue import FEATURE_VERSION
from coderl_gate.costs import CostParameters, costs_of, expected_costs, realised_s, utility_s
from coderl_gate.dataset import kept_chars_of
from coderl_gate.errors import ArtifactError
from coderl_gate.fitness import kept_after
from coderl_store.records import Action, Origin, OutcomeKind
from coderl_store.repository import EDITOR_ONLY, LoggedRequest

from .errors import FeedbackError
from .logged_tokens import Codec, LoggedTokens, NoTokens, NotUsed, PromptShape, logged_tokens
from .splits import Part, Shares, part_of

UNREAD_MS: Final = 250.0
"""What was gone sooner was not read."""


@dataclass(frozen=True, slots=True)
class LoggedRow:
    """One shown suggestion with its outcome."""

    decision_id: str
    user_key: str
    at: datetime
    lineage_id: str
    tokens: LoggedTokens
    chars: int
    lines: int
    kept: bool
    kept_chars: int
    """0 where it was not kept."""
    retained_chars: float
    """Of those, the share that was still there when it was last measured; all where it was not."""
    seconds: float
    """Saved; negative = lost."""
    propensity: float
    p1: float | None
    """P(kept | context), before it was generated; None where no gate was asked."""
    p2: float | None
    """P(kept | context, suggestion)."""
    expected_s: float | None
    """Seconds to expect by p1 of a suggestion of mean length; knows the context only."""
    modelled_s: float | None
    """Seconds to expect by p2 of this suggestion."""
    greedy: bool = False
    measured_s: float | None = None
    """Age in seconds at which `retained_chars` was measured; None = it was not."""


@dataclass(frozen=True, slots=True)
class LoggedRows:
    """Rows by the time of their decisions, and how many requests are none."""

    rows: tuple[LoggedRow, ...]
    left_out: Mapping[NotUsed, int]

    @property
    def greedy(self) -> int:
        """Rows that were decoded greedily."""
        return sum(row.greedy for row in self.rows)


@dataclass(frozen=True, slots=True)
class Reading:
    """Which rows are taken, and how they are read."""

    origins: frozenset[Origin] = frozenset(EDITOR_ONLY)
    generators: Collection[str] | None = None
    """`Suggestion.generator_id`s; None = any whose ids decode to its text."""
    shape: PromptShape = field(default_factory=PromptShape)
    critic: GateArtifact | None = None
    """Estimates p1 and p2 anew from the logged features; None = those with which it was decided. Its costs are each
    programmer's own; without it they are `costs`."""
    costs: CostParameters = field(default_factory=CostParameters)


def rows_from_log(requests: Iterable[LoggedRequest], codec: Codec, reading: Reading | None = None) -> LoggedRows:
    """The rows of logged requests. `requests`: of `Repository.requests`, asked for the same origins. Memory grows with rows."""
    reading = reading or Reading()
    rows: list[LoggedRow] = []
    left_out: Counter[NotUsed] = Counter()
    for request in requests:
        reason = _unfit(request, reading)
        if reason is None:
            assert request.suggestion is not None
            try:
                tokens = logged_tokens(request.context, request.suggestion, codec, reading.shape)
                rows.append(_row(request, tokens, reading))
            except NoTokens as error:
                reason = error.reason
        if reason is not None:
            left_out[reason] += 1
    rows.sort(key=lambda row: (row.at, row.decision_id))
    return LoggedRows(tuple(rows), MappingProxyType(dict(left_out)))


def thinned(logged: LoggedRows, most: int | None) -> LoggedRows:
    """At most so many rows, evenly spaced in time, so that a split by time still finds both sides. None = all."""
    count = len(logged.rows)
    if most is None or count <= most:
        return logged
    rows = tuple(logged.rows[index * count // most] for index in range(most))
    return LoggedRows(rows, MappingProxyType({**logged.left_out, NotUsed.NOT_NEEDED: count - most}))


def agreeing(logged: LoggedRows, logprobs: Sequence[Sequence[float]], tolerance: float = 0.1) -> LoggedRows:
    """The rows whose logged log-probs are those of the model that is to be trained, before its first step.

    `logprobs`: (rows, own tokens) by that model, as `Engine.logprobs` gives them for `feedback.datum_of` of each row.
    `tolerance`: nats per token that the mean absolute difference may be; 4-bit weights in llama.cpp and the same weights in
    torch differ by 0.01 to 0.07. A row beyond it was written by another model, from another prompt, or with keys and values
    of an earlier prompt that were moved. Raises `FeedbackError`
    where the rows and the log-probs do not belong together.
    """
    if len(logprobs) != len(logged.rows):
        raise FeedbackError(f"There are {len(logged.rows)} logged rows but log-probs of {len(logprobs)}.")
    kept: list[LoggedRow] = []
    for row, ours in zip(logged.rows, logprobs, strict=True):
        theirs = row.tokens.logprobs[row.tokens.given :]
        if len(ours) != len(theirs):
            raise FeedbackError(f"Row {row.decision_id} has {len(theirs)} tokens of its own but {len(ours)} log-probs.")
        distance = math.fsum(abs(one - other) for one, other in zip(ours, theirs, strict=True)) / max(1, len(ours))
        if distance <= tolerance:
            kept.append(row)
    count = len(logged.rows) - len(kept)
    more = {NotUsed.DISAGREES: logged.left_out.get(NotUsed.DISAGREES, 0) + count} if count else {}
    return LoggedRows(tuple(kept), MappingProxyType({**logged.left_out, **more}))


@dataclass(frozen=True, slots=True)
class LoggedSplit:
    """Rows by what they are for. Held-out rows are other programmers' *and* later, where there are several programmers."""

    train: tuple[LoggedRow, ...]
    held_out: tuple[LoggedRow, ...]
    left_out: tuple[LoggedRow, ...]
    """Neither: early rows of held-out programmers, late ones of the others, and ideas that were served on both sides."""
    solo: bool
    """There is one programmer: held out is what came later, and nothing says how it goes for others."""


def split_rows(rows: Sequence[LoggedRow], *, seed: int = 0, train_users: float = 0.7, early: float = 0.7) -> LoggedSplit:
    """Split by programmer and time, never by row.

    A programmer's side follows from a hash of seed and user key; `early` is the share of the rows, by time, that lie before the
    cut. Rows of one lineage that lie on both sides of the cut are left out. Raises `FeedbackError` where a side is empty.
    """
    if not (0 < train_users < 1 and 0 < early < 1):
        raise FeedbackError(f"The shares {train_users} and {early} must lie between 0 and 1.")
    ordered = sorted(rows, key=lambda row: (row.at, row.decision_id))
    users = sorted({row.user_key for row in ordered})
    solo = len(users) < 2
    shares = Shares(train_users, 0.0)
    train_keys = {key for key in users if solo or part_of(f"user/{key}", seed, shares) is Part.TRAIN}
    cut = ordered[min(len(ordered) - 1, math.ceil(early * len(ordered)))].at if ordered else None
    before = {row.lineage_id for row in ordered if cut is not None and row.at < cut}
    after = {row.lineage_id for row in ordered if cut is not None and row.at >= cut}
    parts: dict[str, list[LoggedRow]] = {"train": [], "held_out": [], "left_out": []}
    for row in ordered:
        assert cut is not None
        early_row, learns = row.at < cut, row.user_key in train_keys
        if row.lineage_id in before and row.lineage_id in after:
            part = "left_out"
        elif early_row and learns:
            part = "train"
        elif not early_row and (solo or not learns):
            part = "held_out"
        else:
            part = "left_out"
        parts[part].append(row)
    if not parts["train"] or not parts["held_out"]:
        raise FeedbackError(
            f"{len(ordered)} logged rows of {len(users)} programmers leave nothing to learn from, or nothing to judge it by: "
            "log more, or choose another seed or other shares."
        )
    return LoggedSplit(tuple(parts["train"]), tuple(parts["held_out"]), tuple(parts["left_out"]), solo)


def _unfit(request: LoggedRequest, reading: Reading) -> NotUsed | None:
    suggestion, outcome, decision = request.suggestion, request.outcome, request.decision
    if request.session.origin not in reading.origins:
        return NotUsed.NOT_REAL
    if suggestion is None or decision.action is not Action.SHOW:
        return NotUsed.NOT_SHOWN
    if outcome is None:
        return NotUsed.NO_OUTCOME
    unread = outcome.visible_ms is not None and outcome.visible_ms < UNREAD_MS and not outcome.kept
    if outcome.kind is OutcomeKind.NOT_SEEN or unread:
        return NotUsed.NOT_SEEN
    if reading.generators is not None and suggestion.generator_id not in reading.generators:
        return NotUsed.OTHER_GENERATOR
    return None if 0.0 < decision.propensity <= 1.0 else NotUsed.BAD_PROPENSITY


def _row(request: LoggedRequest, tokens: LoggedTokens, reading: Reading) -> LoggedRow:
    suggestion, outcome, decision = request.suggestion, request.outcome, request.decision
    assert suggestion is not None
    assert outcome is not None
    critic, user = reading.critic, request.session.user_key
    own = reading.costs if critic is None else critic.costs_of_user(user)
    p1, p2 = (decision.p1, decision.p2) if critic is None else _estimates(request, critic)
    waited_s = 0.0 if decision.costs is None else decision.costs.t_wait_s
    kept_chars = kept_chars_of(request)
    share = min(1.0, max(0.0, request.survival[-1].share)) if request.survival else None
    lasting = own if share is None else replace(own, edit_share=1.0 - share)
    return LoggedRow(
        decision_id=decision.id,
        user_key=user,
        at=decision.at,
        lineage_id=suggestion.lineage_id,
        tokens=tokens,
        chars=suggestion.chars,
        lines=suggestion.lines,
        kept=outcome.kept,
        kept_chars=kept_chars,
        retained_chars=kept_chars * (1.0 if share is None else share),
        seconds=realised_s(kept_chars, suggestion.chars, suggestion.lines, lasting, waited_s),
        propensity=decision.propensity,
        p1=p1,
        p2=p2,
        expected_s=None if p1 is None else utility_s(p1, expected_costs(own, waited_s)),
        modelled_s=None if p2 is None else utility_s(p2, costs_of(suggestion.chars, suggestion.lines, own, waited_s)),
        greedy=suggestion.temperature <= 0,
        measured_s=request.survival[-1].after_s if request.survival else None,
    )


def _estimates(request: LoggedRequest, critic: GateArtifact) -> tuple[float | None, float | None]:
    """p1 and p2 of a gate by the logged features; None where they are of another version or incomplete."""
    context, suggestion = request.context, request.suggestion
    assert suggestion is not None
    if context.feature_version != FEATURE_VERSION or suggestion.feature_version != FEATURE_VERSION:
        return None, None
    try:
        p1 = critic.stage1.probability(context.features)
        return p1, kept_after(critic, {**context.features, **suggestion.features}, p1)
    except ArtifactError:
        return None, None
