"""Tasks from the log: the place where a suggestion was taken, and the text that was finally kept there.

A request of the log becomes a gap (`TaskKind.INFILL`) with a reference and no tests: an answer can only be compared with what
was kept. Taken are

- `accepted`: the whole suggestion; `partially_accepted`: its first `accepted_chars` characters;
- `typed_through`: the whole suggestion, which the programmer wrote key by key.

Only sessions of origin `editor` count unless others are named. What was shown for exploration counts like anything else: a real
programmer took it, and `Decision.propensity` is not needed where all that is asked is what the right text was. It is named in
`Task.metadata`, so that a trainer can weigh it.

What the log does not hold, and what follows from it. *The text as it is after later edits*: survival is a share, not a text. So
a text counts as finally kept only where the last measurement says that nothing of it changed (`least_share` 1); with a smaller
share the reference is the text as it was suggested, not as it was left. *Survival of what was typed through*, and of what was
taken in a document that was closed at once: it is not measured, and such rows are taken only where `unmeasured` says so (typed
through is always taken: every character was the programmer's own). *Text at all*: only at the privacy level `code`.
*The whole document*: the windows are 6,000 characters before and 2,000 after the place. *What was typed where a suggestion was
withheld*: a shadow says how many characters agreed, which is weak evidence; not taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from coderl_store.records import Origin, OutcomeKind, Reason
from coderl_store.repository import EDITOR_ONLY, LoggedRequest

from .errors import TaskError
from .types import Task, TaskKind

SOURCE = "log"


class LeftOut(StrEnum):
    """Why a request is no task; counted apart."""

    NOT_REAL = "not_real"
    """Simulated, imported or replayed, and not asked for."""
    NOT_KEPT = "not_kept"
    """Nothing was shown, or what was shown was not taken."""
    NO_TEXT = "no_text"
    """The row holds no code: it was written at the privacy level `metrics`, or imported without the text around it."""
    EDITED = "edited"
    """The text was changed after it was taken; what became of it is not in the log."""
    UNMEASURED = "unmeasured"
    """Whether the text stayed was not measured."""
    BLANK = "blank"
    """What was taken is whitespace."""
    OTHER_PART = "other_part"
    """Another serving of the same idea stands for it, or part of what was taken came from one."""


@dataclass(frozen=True, slots=True)
class LogTasks:
    """Tasks, and how many requests are none."""

    tasks: tuple[Task, ...]
    left_out: Mapping[LeftOut, int]


def tasks_from_log(
    requests: Iterable[LoggedRequest],
    *,
    origins: Collection[Origin] = EDITOR_ONLY,
    least_share: float = 1.0,
    unmeasured: bool = False,
) -> LogTasks:
    """The tasks of logged requests, in their order.

    `requests`: of `Repository.requests`, asked for the same `origins`. `least_share` in (0, 1]: of the text still there at the
    last measurement. `unmeasured`: also texts of which no measurement is logged. The problem of a task is its document
    (`Context.document_key`), so that a split keeps one file on one side. Raises `TaskError` for a share out of range.
    """
    if not 0 < least_share <= 1:
        raise TaskError(f"The share of a text that must still be there lies above 0 and at most at 1, not at {least_share}.")
    tasks: list[Task] = []
    left_out: Counter[LeftOut] = Counter()
    for request in requests:
        made = _task(request, frozenset(origins), least_share, unmeasured)
        if isinstance(made, Task):
            tasks.append(made)
        else:
            left_out[made] += 1
    return LogTasks(tuple(tasks), MappingProxyType(dict(left_out)))


def _task(request: LoggedRequest, origins: frozenset[Origin], least_share: float, unmeasured: bool) -> Task | LeftOut:
    kept = _kept_text(request, origins)
    if isinstance(kept, LeftOut):
        return kept
    if reason := _not_final(request, least_share, unmeasured):
        return reason
    context, outcome, decision = request.context, request.outcome, request.decision
    assert outcome is not None
    last = request.survival[-1] if request.survival else None
    about = {
        "user_key": request.session.user_key,
        "at": context.at.isoformat(),
        "outcome": outcome.kind.value,
        "evidence": outcome.evidence.value,
        "propensity": repr(decision.propensity),
        **({"explored": "yes"} if decision.reason is Reason.EXPLORED else {}),
        **({"share": repr(last.share), "after_s": repr(last.after_s)} if last else {}),
    }
    return Task(
        id=f"log/{decision.id}",
        kind=TaskKind.INFILL,
        prompt=context.prefix or "",
        suffix=context.suffix or "",
        reference=kept,
        language=context.language,
        group_id=f"log/{context.document_key}",
        source=SOURCE,
        metadata=MappingProxyType(about),
    )


def _kept_text(request: LoggedRequest, origins: frozenset[Origin]) -> str | LeftOut:
    """What of the suggestion was taken."""
    suggestion, outcome, context = request.suggestion, request.outcome, request.context
    if request.session.origin not in origins:
        return LeftOut.NOT_REAL
    if suggestion is None or outcome is None or not outcome.kept:
        return LeftOut.NOT_KEPT
    if suggestion.text is None or context.prefix is None or context.suffix is None:
        return LeftOut.NO_TEXT
    if outcome.kind is OutcomeKind.PARTIALLY_ACCEPTED:
        if not 0 < outcome.accepted_chars <= len(suggestion.text):
            return LeftOut.OTHER_PART
        text = suggestion.text[: outcome.accepted_chars]
    else:
        text = suggestion.text
    return text if text.strip() else LeftOut.BLANK


def _not_final(request: LoggedRequest, least_share: float, unmeasured: bool) -> LeftOut | None:
    """Why the text taken is not known to be the text kept."""
    if request.survival:
        return None if request.survival[-1].share >= least_share else LeftOut.EDITED
    typed = request.outcome is not None and request.outcome.kind is OutcomeKind.TYPED_THROUGH
    return None if typed or unmeasured else LeftOut.UNMEASURED
